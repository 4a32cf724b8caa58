/* Lists the presets, each as the parser of policies reads it, so that the list cannot say anything else than they do. */
#include "tools/fa-run/presets.h"

#include <stdio.h>
#include <string.h>

#include "core/registry/policy.h"
#include "core/registry/presets.h"
#include "tools/fa-run/say.h"

enum { TEXT_COLUMN = 13, TEXT_WIDTH = 100 };

static void say_line(void *context, const char *line)
{
	(void)context;
	say("%s", line);
}

/* Words of `text` in lines, from TEXT_COLUMN on; the first line has its left part already. */
static void print_wrapped(const char *text)
{
	size_t column = TEXT_COLUMN;
	for (const char *word = text; *word; word += strspn(word, " ")) {
		size_t bytes = strcspn(word, " ");
		if (column > TEXT_COLUMN && column + 1 + bytes > TEXT_WIDTH) {
			printf("\n%*s", TEXT_COLUMN, "");
			column = TEXT_COLUMN;
		}
		column += (size_t)printf("%s%.*s", column > TEXT_COLUMN ? " " : "", (int)bytes, word);
		word += bytes;
	}
	putchar('\n');
}

void presets_list(void)
{
	static struct policy policy;
	printf("%-*swhat it is for, and on what it was tried\n", TEXT_COLUMN, "preset");
	for (size_t i = 0; i < preset_count; i++) {
		struct policy_source source = {
			.name = presets[i].name, .text = presets[i].text, .bytes = presets[i].bytes, .preset = true};
		policy_init(&policy);
		policy_read(&policy, &source, say_line, NULL);
		printf("%-*s", TEXT_COLUMN, presets[i].name);
		print_wrapped(policy.about);
		printf("%*s", TEXT_COLUMN, "");
		print_wrapped(policy.tried);
	}
}
