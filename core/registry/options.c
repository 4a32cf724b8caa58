/*
 * Parses and checks options for the shim (from FA_OPTIONS, before libc is ready) and for fa-run (before it starts a
 * program). Everything lies in the caller's struct: no allocation, no stdio, no environment, no errno. A key that is
 * refused keeps the value it had.
 */
#include "core/registry/options.h"

#include <errno.h>
#include <string.h>

#include "core/registry/words.h"

#define ENTRY_BYTES 2048 /* longest key=value of FA_OPTIONS */

enum option_id {
#define OPTION(id, key, argument, dflt, help) OPTION_##id,
#include "core/registry/options.def"
#undef OPTION
	OPTION_COUNT
};

static const struct {
	const char *key, *argument;
} words[OPTION_COUNT] = {
#define OPTION(id, key, argument, dflt, help) [OPTION_##id] = {key, argument},
#include "core/registry/options.def"
#undef OPTION
};

static const struct {
	const char *key;
	uint64_t dflt, min, max;
	const char *unit;
} numbers[TRACE_THRESHOLD_COUNT] = {
#define THRESHOLD(id, key, dflt, min, max, unit, help) [TRACE_THRESHOLD_##id] = {key, dflt, min, max, unit},
#include "core/registry/thresholds.def"
#undef THRESHOLD
};

static void line_add(struct options_error *error, const char *text)
{
	words_add(error->line, sizeof error->line, text);
}

static void line_add_number(struct options_error *error, uint64_t value, const char *unit)
{
	(unit[0] == 'B' ? words_add_size : words_add_number)(error->line, sizeof error->line, value);
}

static int bad_value(struct options_error *error, const char *key, const char *value, const char *wanted)
{
	error->line[0] = 0;
	line_add(error, "bad value ");
	words_add_quoted(error->line, sizeof error->line, value);
	line_add(error, " for '");
	line_add(error, key);
	line_add(error, "': expected ");
	line_add(error, wanted);
	return -EINVAL;
}

static int not_yet(struct options_error *error, const char *key, const char *value, const char *wanted)
{
	bad_value(error, key, value, wanted);
	line_add(error, "; it is not available in this version");
	return -EINVAL;
}

static int full(struct options_error *error, const char *key, const char *what)
{
	error->line[0] = 0;
	line_add(error, "too many values: '");
	line_add(error, key);
	line_add(error, "' ");
	line_add(error, what);
	return -E2BIG;
}

static int unknown_key(struct options_error *error, const char *key)
{
	struct words_nearest nearest = {0};
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		words_nearest_try(&nearest, key, words[i].key);
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		words_nearest_try(&nearest, key, numbers[i].key);
	error->line[0] = 0;
	line_add(error, "unknown option '");
	line_add(error, key);
	if (nearest.word) {
		line_add(error, "': did you mean '");
		line_add(error, nearest.word);
		line_add(error, "'?");
	} else {
		line_add(error, "': fa-run --list-options shows them all");
	}
	return -ENOENT;
}

static int set_number(uint64_t threshold[TRACE_THRESHOLD_COUNT], unsigned which, const char *value,
		      struct options_error *error)
{
	uint64_t number, min = numbers[which].min, max = numbers[which].max;
	const char *unit = numbers[which].unit;
	if (words_number(value, unit, &number) == 0 && number >= min && number <= max) {
		threshold[which] = number;
		return 0;
	}
	bad_value(error, numbers[which].key, value,
		  unit[0] == 'B'   ? "a number of bytes (suffixes K, M, G) from "
		  : unit[0] == 'f' ? "a number of frames from "
		  : unit[0] == '%' ? "a percentage from "
		  : unit[0] == 'm' ? "a time (suffixes ms, s) in ms from "
				   : "a number (suffixes K, M, G) from ");
	line_add_number(error, min, unit);
	line_add(error, " to ");
	line_add_number(error, max, unit);
	return -EINVAL;
}

/* Copies `value` into the struct's text. */
static int keep_text(struct options *options, const char *key, const char *value, const char **out,
		     struct options_error *error)
{
	size_t bytes = strlen(value) + 1;
	if (bytes > sizeof options->text - options->text_used)
		return full(error, key, "does not fit: all options together are too long");
	*out = memcpy(options->text + options->text_used, value, bytes);
	options->text_used += bytes;
	return 0;
}

static int list_add(struct options *options, struct options_list *list, const char *key, const char *value,
		    struct options_error *error)
{
	if (list->count == OPTIONS_FUNCS_MAX)
		return full(error, key, "may be given 32 times");
	int result = keep_text(options, key, value, &list->item[list->count], error);
	if (result == 0)
		list->count++;
	return result;
}
static_assert(OPTIONS_FUNCS_MAX == 32, "the message names it");

static int set_output(struct options *options, const char *value, struct options_error *error)
{
	if (!value[0] || strlen(value) >= OPTIONS_PATH_BYTES)
		return bad_value(error, "output", value, "a path of 1 to 1023 bytes");
	for (const char *at = value; *at; at++) {
		if (*at == '%' && (at[1] == 'e' || at[1] == 'p' || at[1] == '%'))
			at++;
		else if (*at == '%')
			return bad_value(error, "output", value, "a path in which % is followed by e, p or %");
	}
	return keep_text(options, "output", value, &options->output, error);
}

bool options_function_valid(const char *value)
{
	const char *bang = strchr(value, '!'), *plus = strstr(value, "+0x");
	if (!value[0] || strcmp(value, "@*") == 0 ||
	    (bang && (bang == value || !bang[1] || strcmp(bang + 1, "@*") == 0)))
		return false;
	if (!plus)
		return true;
	size_t digits = strspn(plus + 3, "0123456789abcdefABCDEF");
	const char *end = plus + 3 + digits;
	return plus != value && digits > 0 && digits <= 16 && (!*end || strcmp(end, "@*") == 0);
}

static bool role_valid(const char *value)
{
	char role[8];
	const char *equals = strchr(value, '=');
	if (!equals || (size_t)(equals - value) >= sizeof role || !equals[1])
		return false;
	memcpy(role, value, (size_t)(equals - value));
	role[equals - value] = 0;
	return words_choice("frame|worker|async|io", role) >= 0;
}

static int set_function(struct options *options, struct options_list *list, enum option_id id, const char *value,
			struct options_error *error)
{
	if (!options_function_valid(value))
		return bad_value(error, words[id].key, value,
				 "NAME, MODULE!NAME or MODULE+0xOFFSET, @* behind it for all threads");
	return list_add(options, list, words[id].key, value, error);
}

static int set_word(struct options *options, enum option_id id, const char *value, struct options_error *error)
{
	static const enum trace_mode modes[] = {TRACE_MODE_OBSERVE, TRACE_MODE_ROUTE, TRACE_MODE_OFF};
	static const enum trace_stacks kinds[] = {TRACE_STACKS_FULL, TRACE_STACKS_CALLER, TRACE_STACKS_NONE};
	const char *key = words[id].key, *argument = words[id].argument;
	int choice = 0;
	if (id == OPTION_MODE && !strcmp(value, "enforce"))
		return not_yet(error, key, value, argument);
	if (strchr(argument, '|') && (choice = words_choice(argument, value)) < 0)
		return bad_value(error, key, value, argument);

	switch (id) {
	case OPTION_MODE:
		options->mode = modes[choice];
		options->mode_given = true;
		return 0;
	case OPTION_STACKS:
		options->stacks = kinds[choice];
		options->stacks_given = true;
		return 0;
	case OPTION_LEVEL:
		options->level_full = choice == 1;
		return 0;
	case OPTION_EVENTS:
		options->events_lose = choice == 1;
		return 0;
	case OPTION_FOLLOW:
		options->follow = choice == 1;
		return 0;
	case OPTION_ON_HEAP_ERROR:
		options->abort_on_heap_error = choice == 1;
		return 0;
	case OPTION_OUTPUT:
		return set_output(options, value, error);
	case OPTION_POLICY:
		if (!value[0] || strlen(value) >= OPTIONS_PATH_BYTES)
			return bad_value(error, key, value, "a path of 1 to 1023 bytes");
		return keep_text(options, key, value, &options->policy, error);
	case OPTION_PRESET:
		if (!value[0] || strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(value))
			return bad_value(error, key, value, "the name of a preset");
		return list_add(options, &options->preset, key, value, error);
	case OPTION_FRAME:
		return set_function(options, &options->frame, id, value, error);
	case OPTION_FRAME_SCOPE:
		return set_function(options, &options->frame_scope, id, value, error);
	case OPTION_TASK:
		return set_function(options, &options->task, id, value, error);
	case OPTION_AWAIT:
		return set_function(options, &options->await, id, value, error);
	case OPTION_ROLE:
		if (!role_valid(value))
			return bad_value(error, key, value, "ROLE=GLOB with a role of frame, worker, async or io");
		return list_add(options, &options->role, key, value, error);
	case OPTION_COUNT:
		break;
	}
	return unknown_key(error, key);
}

static int note_given(struct options *options, unsigned which, int result)
{
	options->threshold_given[which] |= result == 0;
	return result;
}

int options_set(struct options *options, const char *key, const char *value, struct options_error *error)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (strcmp(key, words[i].key) == 0)
			return set_word(options, (enum option_id)i, value, error);
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		if (strcmp(key, numbers[i].key) == 0)
			return note_given(options, i, set_number(options->threshold, i, value, error));
	return unknown_key(error, key);
}

int options_threshold(uint64_t threshold[TRACE_THRESHOLD_COUNT], const char *key, const char *value,
		      struct options_error *error)
{
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		if (strcmp(key, numbers[i].key) == 0)
			return set_number(threshold, i, value, error) < 0 ? -EINVAL : (int)i;
	return -ENOENT;
}

void options_init(struct options *options)
{
	memset(options, 0, offsetof(struct options, text));
	options->mode = TRACE_MODE_ROUTE;
	options->stacks = TRACE_STACKS_FULL;
	options->output = options->policy = "";
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		options->threshold[i] = numbers[i].dflt;
}

/* Where more is appended it would take the comma between for its own. */
static int lone_backslash(struct options_error *error)
{
	error->line[0] = 0;
	line_add(error, "a lone backslash at the end: \\\\ is a backslash, \\, a comma");
	return -EINVAL;
}

/* One entry of FA_OPTIONS, unescaped, terminated. A key without `=` is short for key=1. */
static int parse_entry(struct options *options, char *entry, struct options_error *error)
{
	char *equals = strchr(entry, '=');
	if (!equals)
		return options_set(options, entry, "1", error);
	*equals = 0;
	return options_set(options, entry, equals + 1, error);
}

void options_parse(struct options *options, const char *text, void (*on_error)(void *context, const char *line),
		   void *context)
{
	char entry[ENTRY_BYTES];
	while (*text) {
		size_t used = 0;
		bool cut = false, is_open = false;
		for (; *text && *text != ','; text++) {
			if (text[0] == '\\' && (text[1] == ',' || text[1] == '\\'))
				text++;
			else
				is_open = text[0] == '\\' && !text[1];
			if (used + 1 < sizeof entry)
				entry[used++] = *text;
			else
				cut = true;
		}
		entry[used] = 0;
		if (*text == ',')
			text++;
		char *start = entry + strspn(entry, " ");
		if (!*start)
			continue;
		struct options_error error = {"FA_OPTIONS: "}, reason;
		int result = cut       ? full(&reason, "FA_OPTIONS", "has an entry that is too long")
			     : is_open ? lone_backslash(&reason)
				       : parse_entry(options, start, &reason);
		if (result < 0 && on_error) {
			line_add(&error, reason.line);
			on_error(context, error.line);
		}
	}
}

int options_expand(char *out, size_t out_bytes, const char *template_text, const char *exe_name, uint32_t pid)
{
	char digits[11], *number = digits + sizeof digits - 1;
	*number = 0;
	do
		*--number = (char)('0' + pid % 10);
	while (pid /= 10);

	size_t used = 0;
	for (const char *at = template_text; *at; at++) {
		char literal[2] = {*at, 0};
		const char *piece = literal;
		if (at[0] == '%' && (at[1] == 'e' || at[1] == 'p' || at[1] == '%')) {
			at++;
			piece = *at == 'e' ? exe_name : *at == 'p' ? number : "%";
		}
		size_t bytes = strlen(piece);
		if (bytes >= out_bytes - used)
			return -ENAMETOOLONG;
		memcpy(out + used, piece, bytes);
		used += bytes;
	}
	if (used >= out_bytes)
		return -ENAMETOOLONG;
	out[used] = 0;
	return 0;
}
