/*
 * Name comparison for finder.c. Blanks in demangled names are matters of taste (`f(int, char*)`, `f(int,char *)`), so
 * both sides are packed: a blank stays only between two letters. Parts of a function that the compiler moved away
 * (`name.cold`, `name.part.0`, a coroutine's `name.resume`) are not the function and match only who asks for the part.
 */
#define _GNU_SOURCE
#include "core/mark/names.h"

#include <string.h>

#include "core/base.h"

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}

static void pack(char *out, size_t out_bytes, const char *text)
{
	size_t length = 0;
	for (const char *c = text; *c && length + 1 < out_bytes; c++)
		if (*c != ' ' || (length && is_letter(out[length - 1]) && is_letter(c[1])))
			out[length++] = *c;
	out[length] = 0;
}

/* The last identifier before the parameters: the function's own name, which mangling spells out. */
static void find_keyword(struct name_pattern *pattern)
{
	const char *text = pattern->packed;
	size_t end = strcspn(text, "(<");
	if (pattern->glob || strstr(text, "operator") || end == 0 || text[0] == '(')
		return;
	size_t start = end;
	while (start && is_letter(text[start - 1]))
		start--;
	if (start < end && end - start < sizeof pattern->keyword)
		base_text_copy(pattern->keyword, end - start + 1, text + start);
}

/* `operator*`, `operator*=`, `operator->*` and `operator()` hold no wildcard. */
static bool has_wildcard(const char *text)
{
	const char *word = strstr(text, "operator");
	for (const char *c = text; *c; c++)
		if ((*c == '*' || *c == '?') && !(word && c > word && (size_t)(c - word) <= sizeof "operator->" - 1))
			return true;
	return false;
}

void name_compile(struct name_pattern *pattern, const char *text)
{
	pattern->text = text;
	pattern->keyword[0] = 0;
	pack(pattern->packed, sizeof pattern->packed, text);
	pattern->maybe_demangled = text[0] != '_' || (text[1] != 'Z' && text[1] != 'R');
	pattern->maybe_templated = pattern->maybe_demangled && (strpbrk(text, "(<") || strstr(text, "::"));
	/* A `*` between parentheses is a pointer unless another one stands outside. */
	size_t head = strcspn(pattern->packed, "(");
	char before[sizeof pattern->packed];
	base_text_copy(before, head + 1, pattern->packed);
	pattern->glob = has_wildcard(head && pattern->packed[head] ? before : pattern->packed);
	find_keyword(pattern);
}

static bool matches(const struct name_pattern *pattern, const char *text)
{
	return pattern->glob ? base_glob_match(pattern->packed, text) : base_text_equal(pattern->packed, text);
}

static const char *const moved_parts[] = {".cold", ".part.", ".resume", ".destroy", ".actor"};
static const char *const clone_suffixes[] = {".constprop.", ".isra.", ".llvm.", ".lto_priv.", ".local"};

bool name_match_linkage(const struct name_pattern *pattern, const char *linkage)
{
	const char *dot = strchr(linkage, '.');
	if (!dot)
		return matches(pattern, linkage);
	if (base_text_equal(pattern->text, linkage))
		return true;
	for (size_t i = 0; i < sizeof moved_parts / sizeof moved_parts[0]; i++)
		if (strstr(dot, moved_parts[i]) && !strstr(pattern->text, moved_parts[i]))
			return false;
	if (pattern->glob)
		return base_glob_match(pattern->packed, linkage);
	for (size_t i = 0; i < sizeof clone_suffixes / sizeof clone_suffixes[0]; i++)
		if (!strncmp(dot, clone_suffixes[i], strlen(clone_suffixes[i])))
			return strlen(pattern->text) == (size_t)(dot - linkage) &&
			       !memcmp(pattern->text, linkage, (size_t)(dot - linkage));
	return false;
}

bool name_match_path(const struct name_pattern *pattern, const char *readable)
{
	char packed[4096];
	pack(packed, sizeof packed, readable);
	return matches(pattern, packed);
}

/* Start of the name behind a template function's return type: after the last blank outside brackets that comes before
   the parameters. `operator new` and conversion operators keep their blank. */
static const char *skip_return_type(const char *text)
{
	const char *start = text, *word = strstr(text, "operator");
	int depth = 0;
	for (const char *c = text; *c && (!word || c < word); c++) {
		if (*c == '<' || *c == '(')
			depth++;
		else if (*c == '>' || *c == ')')
			depth--;
		else if (*c == ' ' && depth == 0)
			start = c + 1;
		if (*c == '(' && depth == 1 && strncmp(c, "(anonymous namespace)", 21))
			break;
	}
	return start;
}

/* The parenthesis that opens the parameters: the partner of the last closing one. */
static size_t parameters_at(const char *text)
{
	size_t at = strlen(text);
	while (at && text[at - 1] != ')')
		at--;
	int depth = 0;
	while (at--) {
		if (text[at] == ')')
			depth++;
		else if (text[at] == '(' && --depth == 0)
			return at;
	}
	return strlen(text);
}

bool name_match_full(const struct name_pattern *pattern, const char *readable)
{
	char packed[4096];
	const char *name = skip_return_type(readable);
	pack(packed, sizeof packed, readable);
	if (matches(pattern, packed))
		return true;
	pack(packed, sizeof packed, name);
	if (matches(pattern, packed))
		return true;
	packed[parameters_at(packed)] = 0;
	return matches(pattern, packed);
}

bool name_may_contain(const struct name_pattern *pattern, const char *linkage)
{
	return linkage[0] == '_' && linkage[1] == 'Z' && (!pattern->keyword[0] || strstr(linkage, pattern->keyword));
}
