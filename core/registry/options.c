/*
 * Parses and checks options for the shim (from FA_OPTIONS, before libc is ready) and for fa-run (before it starts a
 * program). Everything lies in the caller's struct: no allocation, no stdio, no environment, no errno. A key that is
 * refused keeps the value it had.
 */
#include "core/registry/options.h"

#include <errno.h>
#include <string.h>

#define ENTRY_BYTES 2048 /* longest key=value of FA_OPTIONS */
#define KEY_BYTES 32 /* longer than every key; longer unknown keys get no suggestion */

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

/* Appends to the error's line, cutting what does not fit; bytes that could upset a terminal become '?'. */
static void line_add(struct options_error *error, const char *text)
{
	size_t at = strlen(error->line);
	for (; *text && at + 1 < sizeof error->line; text++)
		error->line[at++] = (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text;
	error->line[at] = 0;
}

static void line_add_number(struct options_error *error, uint64_t value, const char *unit)
{
	static const char *const suffix[] = {"", "K", "M", "G", "T"};
	unsigned power = 0;
	while (unit[0] == 'B' && value && value % 1024 == 0 && power + 1 < sizeof suffix / sizeof suffix[0]) {
		value /= 1024;
		power++;
	}
	char digits[21], *at = digits + sizeof digits - 1;
	*at = 0;
	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	line_add(error, at);
	line_add(error, suffix[power]);
}

static int bad_value(struct options_error *error, const char *key, const char *value, const char *wanted)
{
	error->line[0] = 0;
	line_add(error, "bad value '");
	for (unsigned i = 0; i < 80 && value[i]; i++)
		line_add(error, (char[]){value[i], 0});
	line_add(error, strlen(value) > 80 ? "...' for '" : "' for '");
	line_add(error, key);
	line_add(error, "': expected ");
	line_add(error, wanted);
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

/* Levenshtein distance of two keys, both shorter than KEY_BYTES. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned row[KEY_BYTES];
	size_t columns = strlen(b);
	for (unsigned j = 0; j <= columns; j++)
		row[j] = j;
	for (unsigned i = 0; a[i]; i++) {
		unsigned diagonal = row[0];
		row[0] = i + 1;
		for (unsigned j = 0; j < columns; j++) {
			unsigned best = diagonal + (a[i] != b[j]);
			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			row[j + 1] = best;
		}
	}
	return row[columns];
}

static int unknown_key(struct options_error *error, const char *key)
{
	const char *nearest = NULL;
	unsigned nearest_distance = 3; /* a suggestion needs to be closer than this */
	for (unsigned i = 0; strlen(key) < KEY_BYTES && i < OPTION_COUNT + TRACE_THRESHOLD_COUNT; i++) {
		const char *candidate = i < OPTION_COUNT ? words[i].key : numbers[i - OPTION_COUNT].key;
		unsigned distance = edit_distance(key, candidate);
		if (distance < nearest_distance && distance < strlen(candidate) / 2 + 1) {
			nearest = candidate;
			nearest_distance = distance;
		}
	}
	error->line[0] = 0;
	line_add(error, "unknown option '");
	line_add(error, key);
	if (nearest) {
		line_add(error, "': did you mean '");
		line_add(error, nearest);
		line_add(error, "'?");
	} else {
		line_add(error, "': fa-run --list-options shows them all");
	}
	return -ENOENT;
}

/* Which of the words in "a|b|c" `value` is, or -1. */
static int choice_index(const char *choices, const char *value)
{
	size_t length = strlen(value);
	for (int index = 0;; index++) {
		size_t word = 0;
		while (choices[word] && choices[word] != '|')
			word++;
		if (word == length && memcmp(choices, value, word) == 0)
			return index;
		if (!choices[word])
			return -1;
		choices += word + 1;
	}
}

/* Multiplier of a number's suffix, 0 when it has none that fits the unit. */
static uint64_t suffix_factor(const char *suffix, const char *unit)
{
	if (!suffix[0])
		return 1;
	if (unit[0] == 'm')
		return strcmp(suffix, "ms") == 0 ? 1 : strcmp(suffix, "s") == 0 ? 1000 : 0;
	if (unit[0] == '%')
		return strcmp(suffix, "%") == 0;
	if (unit[0] == 'B' && strcmp(suffix, "B") == 0)
		return 1;
	uint64_t factor = 0;
	switch (suffix[0]) {
	case 'k':
	case 'K':
		factor = 1ull << 10;
		break;
	case 'm':
	case 'M':
		factor = 1ull << 20;
		break;
	case 'g':
	case 'G':
		factor = 1ull << 30;
		break;
	case 'T':
		factor = 1ull << 40;
		break;
	}
	bool end = !suffix[1] || (unit[0] == 'B' && (strcmp(suffix + 1, "B") == 0 || strcmp(suffix + 1, "iB") == 0));
	return end ? factor : 0;
}

static int set_number(struct options *options, unsigned which, const char *value, struct options_error *error)
{
	uint64_t number = 0, min = numbers[which].min, max = numbers[which].max;
	const char *unit = numbers[which].unit, *at = value;
	bool overflow = false;
	for (; *at >= '0' && *at <= '9'; at++)
		overflow |= __builtin_mul_overflow(number, 10u, &number) ||
			    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number);
	uint64_t factor = at == value ? 0 : suffix_factor(at, unit);
	overflow |= __builtin_mul_overflow(number, factor, &number);
	if (factor && !overflow && number >= min && number <= max) {
		options->threshold[which] = number;
		options->threshold_given[which] = true;
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

/* A function by name, glob, module!name or module+0xOFFSET, each with @* or not. */
static bool function_valid(const char *value)
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
	return choice_index("frame|worker|async|io", role) >= 0;
}

static int set_function(struct options *options, struct options_list *list, enum option_id id, const char *value,
			struct options_error *error)
{
	if (!function_valid(value))
		return bad_value(error, words[id].key, value,
				 "NAME, MODULE!NAME or MODULE+0xOFFSET, @* behind it for all threads");
	return list_add(options, list, words[id].key, value, error);
}

static int set_word(struct options *options, enum option_id id, const char *value, struct options_error *error)
{
	static const enum trace_mode modes[] = {TRACE_MODE_OBSERVE, TRACE_MODE_ROUTE, TRACE_MODE_ENFORCE,
						TRACE_MODE_OFF};
	static const enum trace_stacks kinds[] = {TRACE_STACKS_FULL, TRACE_STACKS_CALLER, TRACE_STACKS_NONE};
	const char *key = words[id].key, *argument = words[id].argument;
	int choice = 0;
	if (strchr(argument, '|') && (choice = choice_index(argument, value)) < 0)
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

int options_set(struct options *options, const char *key, const char *value, struct options_error *error)
{
	for (unsigned i = 0; i < OPTION_COUNT; i++)
		if (strcmp(key, words[i].key) == 0)
			return set_word(options, (enum option_id)i, value, error);
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		if (strcmp(key, numbers[i].key) == 0)
			return set_number(options, i, value, error);
	return unknown_key(error, key);
}

void options_init(struct options *options)
{
	memset(options, 0, sizeof *options);
	options->mode = TRACE_MODE_ROUTE;
	options->stacks = TRACE_STACKS_FULL;
	options->output = options->policy = "";
	for (unsigned i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		options->threshold[i] = numbers[i].dflt;
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
		bool cut = false;
		for (; *text && *text != ','; text++) {
			if (text[0] == '\\' && (text[1] == ',' || text[1] == '\\'))
				text++;
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
		int result = cut ? full(&reason, "FA_OPTIONS", "has an entry that is too long")
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
