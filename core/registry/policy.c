/*
 * Reads policies: the lines are ours (limits, byte soup, line numbers), inih makes keys and values of them, and the
 * table of policy_keys.c gives them their meaning. Runs in the target before main and in the tools: no allocation, no
 * stdio, no errno. A line that is refused leaves no trace in the policy, and a rule or suppression with one is left out.
 */
#include <ini.h>

#include "core/registry/policy_parse.h"

#include <errno.h>
#include <string.h>

#include "core/registry/words.h"

static const struct {
	const char *name, *argument; /* argument NULL: none is taken */
} sections[] = {
	[SECTION_NONE] = {"", NULL},
	[SECTION_SKIPPED] = {"", NULL},
	[SECTION_PRESET] = {"preset", NULL},
	[SECTION_MARKERS] = {"markers", NULL},
	[SECTION_AUTOMATIC] = {"automatic", NULL},
	[SECTION_REGION] = {"region", "NAME"},
	[SECTION_ROLE] = {"role", "frame|worker|async|io"},
	[SECTION_RULE] = {"rule", "NAME"},
	[SECTION_THRESHOLDS] = {"thresholds", NULL},
	[SECTION_LEVELS] = {"levels", NULL},
	[SECTION_SUPPRESS] = {"suppress", "NAME"},
	[SECTION_OPTIONS] = {"options", NULL},
};
#define SECTION_COUNT (sizeof sections / sizeof sections[0])

uint32_t policy_region_named(const struct policy *policy, const char *name)
{
	for (uint32_t i = 1; i < policy->region_count; i++)
		if (strcmp(policy->region[i].name, name) == 0)
			return i;
	return 0;
}

static void refuse_empty_key(struct policy_parse *parse)
{
	if (!parse->empty_line)
		return;
	policy_refuse(parse, parse->empty_line, "'", parse->key->name, "' has no value; expected ", parse->key->wanted);
	parse->empty_line = 0;
	parse->broken = true;
}

static void close_section(struct policy_parse *parse)
{
	refuse_empty_key(parse);
	policy_close_named(parse);
	parse->section = SECTION_SKIPPED;
	parse->section_line = parse->line;
	parse->broken = parse->key_named = parse->key_refused = false;
	parse->given = 0;
	parse->key = NULL;
}

static void refuse_section(struct policy_parse *parse, const char *name)
{
	struct words_nearest nearest = {0};
	for (size_t i = SECTION_PRESET; i < SECTION_COUNT; i++)
		words_nearest_try(&nearest, name, sections[i].name);
	if (nearest.word)
		policy_refuse(parse, parse->line, "unknown section [", name, "]; did you mean [", nearest.word, "]?");
	else
		policy_refuse(parse, parse->line, "unknown section [", name,
			      "]; there are preset, markers, automatic, ",
			      "region, role, rule, thresholds, levels, suppress and options");
}

/* `text` is a header without its brackets, and is changed. */
static void open_section(struct policy_parse *parse, char *text)
{
	static const char blanks[] = " \t\r\f\v";
	close_section(parse);
	char *name = text + strspn(text, blanks), *argument = name + strcspn(name, blanks);
	if (*argument)
		*argument++ = 0;
	argument += strspn(argument, blanks);
	for (size_t end = strlen(argument); end && strchr(blanks, argument[end - 1]); end--)
		argument[end - 1] = 0;

	size_t section = SECTION_PRESET;
	while (section < SECTION_COUNT && strcmp(sections[section].name, name) != 0)
		section++;
	if (section == SECTION_COUNT) {
		refuse_section(parse, name);
		return;
	}
	if (!sections[section].argument && *argument) {
		policy_refuse(parse, parse->line, "[", name, "] takes no name; write [", name, "]");
		return;
	}
	parse->section = (enum policy_section)section;
	if (section == SECTION_AUTOMATIC)
		parse->policy->automatic_given = true;
	if (section == SECTION_PRESET)
		parse->policy->about = parse->policy->tried = "";
	if (!sections[section].argument)
		return;
	int result = *argument ? policy_open_named(parse, argument) : -EINVAL;
	if (result == -EINVAL)
		policy_refuse(parse, parse->line, "bad header [", name, *argument ? " " : "", argument, "]; expected [",
			      name, " ", sections[section].argument, "]");
	if (result < 0)
		parse->section = SECTION_SKIPPED;
}

static const struct policy_key *find_key(enum policy_section section, const char *name)
{
	for (size_t i = 0; i < policy_key_count; i++)
		if (policy_keys[i].section == section && strcmp(policy_keys[i].name, name) == 0)
			return &policy_keys[i];
	return NULL;
}

static void refuse_key(struct policy_parse *parse, const char *name)
{
	const char *section = sections[parse->section].name, *elsewhere = NULL;
	struct words_nearest nearest = {0};
	for (size_t i = 0; i < policy_key_count; i++) {
		if (policy_keys[i].section == parse->section)
			words_nearest_try(&nearest, name, policy_keys[i].name);
		else if (strcmp(policy_keys[i].name, name) == 0)
			elsewhere = sections[policy_keys[i].section].name;
	}
	if (nearest.word) {
		policy_refuse(parse, parse->line, "unknown key '", name, "' in [", section, "]; did you mean '",
			      nearest.word, "'?");
		return;
	}
	if (elsewhere) {
		policy_refuse(parse, parse->line, "unknown key '", name, "' in [", section, "]; it belongs to [",
			      elsewhere, "]");
		return;
	}
	char known[128] = "";
	for (size_t i = 0; i < policy_key_count; i++) {
		if (policy_keys[i].section != parse->section)
			continue;
		words_add(known, sizeof known, known[0] ? ", " : "");
		words_add(known, sizeof known, policy_keys[i].name);
	}
	policy_refuse(parse, parse->line, "unknown key '", name, "' in [", section, "]; its keys are ", known);
}

static void set_value(struct policy_parse *parse, const char *value)
{
	const struct policy_key *key = parse->key;
	int result = *value ? key->set(parse, key, value) : -EINVAL;
	if (result == -EINVAL)
		policy_refuse(parse, parse->line, "bad value '", value, "' for '", key->name, "'; expected ",
			      key->wanted);
	parse->broken |= result < 0;
}

static void first_value(struct policy_parse *parse, const char *name, const char *value)
{
	parse->key_named = name[0] != 0;
	parse->key = NULL;
	parse->key_refused = true;
	if (parse->section == SECTION_SKIPPED)
		return;
	if (parse->section == SECTION_NONE) {
		policy_refuse(parse, parse->line, "'", name,
			      "' stands outside every section; begin with a header such as ", "[markers]");
		return;
	}
	parse->key_refused = false;
	if (parse->section == SECTION_THRESHOLDS) {
		policy_set_threshold(parse, name, value);
		return;
	}
	if (parse->section == SECTION_LEVELS) {
		policy_set_level(parse, name, value);
		return;
	}
	parse->key = find_key(parse->section, name);
	if (!parse->key) {
		refuse_key(parse, name);
		parse->broken = parse->key_refused = true;
		return;
	}
	uint64_t bit = 1ull << (parse->key - policy_keys);
	if (parse->key->arity != KEY_MANY && (parse->given & bit)) {
		policy_refuse(parse, parse->line, "'", name, "' stands twice in this section; give it once");
		parse->broken = parse->key_refused = true;
		return;
	}
	parse->given |= bit;
	if (!*value && parse->key->arity != KEY_ONCE)
		parse->empty_line = parse->line;
	else
		set_value(parse, value);
}

static void further_value(struct policy_parse *parse, const char *value)
{
	parse->empty_line = 0;
	if (parse->key_refused)
		return;
	if (parse->key && parse->key->arity != KEY_ONCE) {
		set_value(parse, value);
		return;
	}
	policy_refuse(parse, parse->line,
		      "an indented line is a further value of the key before it, which takes one; begin ",
		      "it with KEY =");
	parse->broken = true;
}

/* inih's, for each key and value; its `section` is cut at 49 bytes, ours is not. */
static int take_value(void *user, const char *section, const char *name, const char *value)
{
	struct policy_parse *parse = user;
	(void)section;
	parse->unseen = false;
	if (parse->indented && parse->key_named) {
		further_value(parse, value);
		return 1;
	}
	refuse_empty_key(parse);
	first_value(parse, name, value);
	return 1;
}

static bool is_header(const struct policy_parse *parse, const char *text, size_t bytes)
{
	return text[0] == '[' && (!parse->indented || text[bytes - 1] == ']');
}

/* A header is ours alone: inih would cut its name. */
static void take_header(struct policy_parse *parse, char *text)
{
	char *end = strchr(text, ']');
	if (end && !end[1]) {
		*end = 0;
		open_section(parse, text + 1);
		return;
	}
	close_section(parse);
	policy_refuse(parse, parse->line, "bad header ", text,
		      "; expected one [section] or [section NAME] on its line");
}

/* A line that inih does not make a value of: indented ones after it must not count for an earlier key. */
static void refuse_line(struct policy_parse *parse, const char *what, const char *right)
{
	if (parse->section != SECTION_SKIPPED)
		policy_refuse(parse, parse->line, what, right);
	parse->broken = true;
	if (parse->indented)
		return;
	refuse_empty_key(parse);
	parse->line_refused = true;
}

/* Whether a line can be handed to inih; says why when it cannot. */
static bool line_fits(struct policy_parse *parse, const char *text, size_t bytes, size_t room)
{
	if (bytes <= room && !memchr(text, 0, bytes))
		return true;
	if (bytes > room) {
		char most[96] = "the line is too long; at most ";
		words_add_number(most, sizeof most, room);
		refuse_line(parse, most, " bytes, comment not counted (* shortens a function's name)");
	} else {
		refuse_line(parse, "a NUL byte in this line; a policy is plain text", "");
	}
	return false;
}

static char *copy_line(char *out, const char *text, size_t bytes)
{
	memcpy(out, text, bytes);
	out[bytes] = 0;
	return out;
}

/* inih's fgets: hands out lines that fit and that mean something. */
static char *give_line(char *out, int out_bytes, void *stream)
{
	struct policy_parse *parse = stream;
	const char *text;
	size_t bytes;
	if (parse->unseen)
		refuse_line(parse, "no '=' in this line; expected KEY = VALUE, [section] or ; comment", "");
	parse->unseen = false;
	while (parse->errors <= POLICY_ERRORS_MAX && policy_next_line(parse, &text, &bytes)) {
		if (bytes == 0)
			continue;
		parse->indented = parse->indented && (parse->key_named || parse->line_refused) &&
				  !policy_begins_with_key(text, bytes);
		bool header = is_header(parse, text, bytes);
		if (!parse->indented || header)
			parse->line_refused = false;
		if (parse->line_refused)
			continue;
		bool fits = line_fits(parse, text, bytes, (size_t)out_bytes - 2); /* blank, end */
		if (header) {
			if (fits)
				take_header(parse, copy_line(out, text, bytes));
			else
				close_section(parse);
			return strcpy(out, "[]"); /* inih forgets the key before it */
		}
		if (!fits)
			continue;
		out[0] = ' ';
		copy_line(out + parse->indented, text, bytes);
		parse->unseen = true;
		return out;
	}
	return NULL;
}

void policy_init(struct policy *policy)
{
	memset(policy, 0, sizeof *policy - sizeof policy->text);
	policy->about = policy->tried = "";
}

uint32_t policy_read(struct policy *policy, const struct policy_source *source,
		     void (*on_error)(void *context, const char *line), void *context)
{
	struct policy_parse parse = {.policy = policy,
				     .source = source,
				     .on_error = on_error,
				     .context = context,
				     .at = source->text,
				     .end = source->text + source->bytes};
	if (source->bytes >= 3 && memcmp(source->text, "\xef\xbb\xbf", 3) == 0)
		parse.at += 3;
	if (source->preset)
		policy->about = policy->tried = "";
	ini_parse_stream(give_line, &parse, take_value, &parse);
	close_section(&parse);
	policy_finish(&parse);
	return parse.errors;
}
