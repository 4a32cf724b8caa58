/*
 * `stack = FUNC low=WHERE size=WHERE` and `switch = FUNC to=WHERE`: how a function that no language runtime explains is
 * given the stacks it deals with. WHERE is argN, the N-th argument as passed in a register, or [argN+OFFSET], the word
 * in memory there.
 */
#include <errno.h>
#include <string.h>

#include "core/registry/policy_parse.h"
#include "core/registry/words.h"

static const char names[] = "low|top|size|entry|to";
enum { WHERE_LOW, WHERE_TOP, WHERE_SIZE, WHERE_ENTRY, WHERE_TO, WHERE_COUNT };

/* argN[+OFFSET], in brackets or not: an offset needs them. */
static int parse_where(const char *text, size_t bytes, struct policy_where *where)
{
	char word[32], *at = word;
	bool memory = bytes > 2 && text[0] == '[' && text[bytes - 1] == ']';
	if (memory) {
		text++;
		bytes -= 2;
	}
	if (bytes >= sizeof word)
		return -EINVAL;
	memcpy(word, text, bytes);
	word[bytes] = 0;
	if (strncmp(at, "arg", 3) != 0 || at[3] < '1' || at[3] > '6')
		return -EINVAL;
	*where = (struct policy_where){.argument = (uint8_t)(at[3] - '0'), .memory = memory};
	at += 4;
	if (!*at)
		return 0;
	uint64_t offset;
	if (*at != '+' || !memory || words_number(at + 1, "B", &offset) < 0 || offset > UINT16_MAX)
		return -EINVAL;
	where->offset = (uint16_t)offset;
	return 0;
}

/* Cuts the last "name=WHERE" off `text`. Returns which it is, -ENOENT (no such word there) or -EINVAL. */
static int take_last(char *text, struct policy_where *where)
{
	char *blank = strrchr(text, ' '), *equals = blank ? strchr(blank, '=') : NULL;
	if (!equals)
		return -ENOENT;
	*equals = 0;
	int which = words_choice(names, blank + 1);
	*equals = '=';
	if (which < 0)
		return -ENOENT;
	if (parse_where(equals + 1, strlen(equals + 1), where) < 0)
		return -EINVAL;
	while (blank > text && blank[-1] == ' ')
		blank--;
	*blank = 0;
	return which;
}

/* What a marker needs, and nothing that it has no use for. */
static bool is_whole(enum policy_marker_kind kind, const struct policy_where where[WHERE_COUNT])
{
	bool low = where[WHERE_LOW].argument, top = where[WHERE_TOP].argument, size = where[WHERE_SIZE].argument;
	bool entry = where[WHERE_ENTRY].argument, to = where[WHERE_TO].argument;
	return kind == POLICY_SWITCH ? to && !low && !top && !size && !entry : size && low != top && !to;
}

int policy_parse_stack(struct policy_marker *marker, char *text)
{
	struct policy_where where[WHERE_COUNT] = {0}, last;
	int which;
	while ((which = take_last(text, &last)) >= 0) {
		if (where[which].argument)
			return -EINVAL;
		where[which] = last;
	}
	if (which == -EINVAL || !is_whole(marker->kind, where))
		return -EINVAL;
	marker->low = where[WHERE_LOW];
	marker->top = where[WHERE_TOP];
	marker->size = where[WHERE_SIZE];
	marker->entry = where[WHERE_ENTRY];
	marker->to = where[WHERE_TO];
	return 0;
}
