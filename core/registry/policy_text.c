/*
 * Texts of a policy: its lines, counted, trimmed and without comments, whatever the bytes; the words that are kept of
 * them; and the one line that says what is wrong with one.
 */
#include "core/registry/policy_parse.h"

#include <errno.h>
#include <string.h>

#include "core/registry/words.h"

#define ERROR_BYTES 1536

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool policy_begins_with_key(const char *text, size_t bytes)
{
	size_t word = 0;
	while (word < bytes && (text[word] == '-' || (text[word] >= '0' && text[word] <= '9') ||
				((text[word] | 0x20) >= 'a' && (text[word] | 0x20) <= 'z')))
		word++;
	size_t at = word;
	while (at < bytes && is_blank(text[at]))
		at++;
	return word && at < bytes && text[at] == '=';
}

bool policy_next_line(struct policy_parse *parse, const char **text, size_t *bytes)
{
	if (parse->at == parse->end)
		return false;
	const char *start = parse->at;
	const char *newline = memchr(start, '\n', (size_t)(parse->end - start)), *end = newline ? newline : parse->end;
	parse->at = newline ? newline + 1 : parse->end;
	parse->line++;
	parse->indented = start < end && is_blank(*start);
	while (start < end && is_blank(*start))
		start++;
	for (const char *at = start; at < end; at++) {
		if ((*at == ';' && (at == start || is_blank(at[-1]))) || (*at == '#' && at == start)) {
			end = at;
			break;
		}
	}
	while (start < end && is_blank(end[-1]))
		end--;
	*text = start;
	*bytes = (size_t)(end - start);
	return true;
}

void policy_refuse_pieces(struct policy_parse *parse, uint32_t line, const char *const *pieces)
{
	char text[ERROR_BYTES] = "";
	if (parse->errors > POLICY_ERRORS_MAX)
		return;
	parse->policy->errors++;
	words_add(text, sizeof text, parse->source->name);
	words_add(text, sizeof text, ":");
	words_add_number(text, sizeof text, line);
	words_add(text, sizeof text, ": ");
	for (; *pieces && parse->errors < POLICY_ERRORS_MAX; pieces++)
		words_add(text, sizeof text, *pieces);
	if (parse->errors++ == POLICY_ERRORS_MAX)
		words_add(text, sizeof text, "too much is wrong; the rest is not read, check what kind of file it is");
	if (parse->on_error)
		parse->on_error(parse->context, text);
}

int policy_full(struct policy_parse *parse, const char *what)
{
	policy_refuse(parse, parse->line, "the policy is full; it takes at most ", what);
	return -E2BIG;
}

const char *policy_keep(struct policy_parse *parse, const char *word)
{
	struct policy *policy = parse->policy;
	size_t bytes = strlen(word) + 1;
	if (bytes > sizeof policy->text - policy->text_used) {
		policy_full(parse, "64 KiB of names and texts");
		return NULL;
	}
	char *kept = memcpy(policy->text + policy->text_used, word, bytes);
	policy->text_used += bytes;
	return kept;
}
static_assert(POLICY_TEXT_BYTES == 64u << 10, "the message names it");

int policy_join(struct policy_parse *parse, const char **text, const char *separator, const char *more)
{
	struct policy *policy = parse->policy;
	size_t bytes = *text ? strlen(*text) : 0;
	if (bytes == 0) {
		const char *kept = policy_keep(parse, more);
		*text = kept ? kept : *text;
		return kept ? 0 : -E2BIG;
	}
	bool last = *text + bytes + 1 == policy->text + policy->text_used;
	const char *start = last ? *text : policy_keep(parse, *text);
	if (!start)
		return -E2BIG;
	policy->text_used--;
	size_t mark = policy->text_used;
	if (strlen(separator) + strlen(more) >= sizeof policy->text - mark) {
		policy->text_used = mark + 1;
		return policy_full(parse, "64 KiB of names and texts");
	}
	memcpy(policy->text + mark, separator, strlen(separator));
	policy->text_used += strlen(separator);
	policy_keep(parse, more);
	*text = start;
	return 0;
}
