/*
 * Reads the command line. The registry drives it: each of its keys is a long option, --set reaches the same keys, and
 * --help and --list-options print from it, so that nothing is listed twice. Called once, from main.
 */
#include "tools/fa-run/command.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fa-run/policy.h"
#include "tools/fa-run/presets.h"
#include "tools/fa-run/say.h"

enum {
	LONG_SET = 1,
	LONG_REPORT,
	LONG_NO_REPORT,
	LONG_VERSION,
	LONG_LIST,
	LONG_LIST_PRESETS,
	LONG_QUIET,
	LONG_SUGGEST,
	LONG_HELP,
	LONG_KEY
};

static const struct option long_options[] = {
	{"set", required_argument, NULL, LONG_SET},
	{"report", no_argument, NULL, LONG_REPORT},
	{"no-report", no_argument, NULL, LONG_NO_REPORT},
	{"quiet", no_argument, NULL, LONG_QUIET},
	{"suggest", optional_argument, NULL, LONG_SUGGEST},
	{"help", no_argument, NULL, LONG_HELP},
	{"version", no_argument, NULL, LONG_VERSION},
	{"list-options", no_argument, NULL, LONG_LIST},
	{"list-presets", no_argument, NULL, LONG_LIST_PRESETS},
	{"follow", no_argument, NULL, LONG_KEY}, /* before the registry's own: the first of a name counts */
#define OPTION(id, key, argument, dflt, help) {key, required_argument, NULL, LONG_KEY},
#include "core/registry/options.def"
#undef OPTION
#define THRESHOLD(id, key, dflt, min, max, unit, help) {key, required_argument, NULL, LONG_KEY},
#include "core/registry/thresholds.def"
#undef THRESHOLD
	{NULL, 0, NULL, 0},
};

static const char usage[] =
	"Usage: fa-run [options] [--] COMMAND [ARG...]\n"
	"Run COMMAND with its heap served by libframealloc.so, and record what its frames do.\n"
	"\n"
	"  -o, --output FILE     recording (default fa-<exe>-<pid>.fatrace in the current folder; %e %p allowed)\n"
	"  -m, --mode MODE       observe | route | off (default route)\n"
	"  -p, --preset NAME     markers known by name (repeatable); --list-presets shows them\n"
	"  -c, --policy FILE     INI policy: see fa-policy(5); FA_POLICY names one as well\n"
	"      --frame FUNC      frame boundary at each entry of FUNC: NAME, MODULE!NAME or MODULE+0xOFFSET, globs\n"
	"                        allowed; FUNC@* on all threads (repeatable). Without any marker the boundary is "
	"found\n"
	"                        from what the program calls periodically; none: no frames\n"
	"      --frame-scope FUNC\n"
	"                        frame from each entry of FUNC to its return (repeatable)\n"
	"      --task FUNC       FUNC polls the task that is its first argument (repeatable)\n"
	"      --await FUNC      FUNC blocks or yields: an await point (repeatable)\n"
	"      --role ROLE=GLOB  threads whose name matches: frame, worker, async, io (repeatable)\n"
	"      --stacks KIND     full | caller | none (default full)\n"
	"      --budget BYTES    bytes one frame may allocate (suffixes K M G)\n"
	"      --set KEY=VALUE   any option or threshold (repeatable); --list-options shows them\n"
	"      --follow          children too, each its own recording\n"
	"      --report, --no-report\n"
	"                        print the summary at the end (default: when stderr is a terminal)\n"
	"      --suggest[=FILE]  write a policy made from the run, to FILE or to standard error\n"
	"      --quiet           no status line and no summary; only what went wrong\n"
	"      --list-options    every key with its default, then exit\n"
	"      --list-presets    the presets, what each is for and on what it was tried, then exit\n"
	"      --help, --version\n"
	"\n"
	"The exit status is COMMAND's, 128+N when signal N ended it; 125 when fa-run failed, 126 when COMMAND cannot\n"
	"be run, 127 when it is not found.\n";

static void list_option(const char *key, const char *argument, const char *dflt, const char *help)
{
	char left[64];
	snprintf(left, sizeof left, "%s=%s", key, argument);
	printf("  %-36s %s%s%s%s\n", left, help, dflt[0] ? " [" : "", dflt, dflt[0] ? "]" : "");
}

static void list_threshold(const char *key, uint64_t dflt, const char *unit, const char *help)
{
	static const char suffixes[] = " KMG";
	char text[32];
	unsigned power = 0;
	for (; unit[0] == 'B' && dflt && dflt % 1024 == 0 && power < 3; power++)
		dflt /= 1024;
	snprintf(text, sizeof text, "%" PRIu64 "%.*s%s", dflt, power ? 1 : 0, &suffixes[power],
		 unit[0] == '%' || unit[0] == 'm' ? unit : "");
	list_option(key,
		    unit[0] == 'B'   ? "BYTES"
		    : unit[0] == '%' ? "PERCENT"
		    : unit[0] == 'm' ? "MS"
				     : "N",
		    text, help);
}

static void list_options(void)
{
	printf("Keys of --set and FA_OPTIONS, each also a long option; defaults in brackets; `...`: repeatable.\n");
#define OPTION(id, key, argument, dflt, help) list_option(key, argument, dflt, help);
#include "core/registry/options.def"
#undef OPTION
#define THRESHOLD(id, key, dflt, min, max, unit, help) list_threshold(key, dflt, unit, help);
#include "core/registry/thresholds.def"
#undef THRESHOLD
}

char *command_append(char *text, const char *key, const char *value)
{
	size_t used = text ? strlen(text) : 0;
	char *grown = realloc(text, used + 1 + strlen(key) + 1 + 2 * strlen(value) + 1);
	if (!grown)
		abort();
	char *at = grown + used;
	if (used)
		*at++ = ',';
	at = stpcpy(at, key);
	*at++ = '=';
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			*at++ = '\\';
		*at++ = *value;
	}
	*at = 0;
	return grown;
}

static int set_key(struct command *command, const char *key, const char *value)
{
	struct options_error error;
	int result = options_set(&command->options, key, value, &error);
	if (result < 0) {
		say("%s", error.line);
		return -EINVAL;
	}
	if (strcmp(key, "output") != 0)
		command->shim_options = command_append(command->shim_options, key, value);
	return 0;
}

static int set_pair(struct command *command, const char *pair)
{
	const char *equals = strchr(pair, '=');
	if (!equals) {
		say("--set %s: expected KEY=VALUE", pair);
		return -EINVAL;
	}
	char *key = strndup(pair, (size_t)(equals - pair));
	if (!key)
		abort();
	int result = set_key(command, key, equals + 1);
	free(key);
	return result;
}

static void say_error(void *context, const char *line)
{
	*(int *)context = -EINVAL;
	say("%s", line);
}

/* What the registry would make of FA_OPTIONS `text`: nothing may be lost on the way into the program. */
static int check_text(const char *text, struct options *scratch)
{
	int result = 0;
	options_init(scratch);
	options_parse(scratch, text, say_error, &result);
	return result;
}

/* FA_OPTIONS of the environment comes first, so that the command line wins; what another fa-run set for its own
   program (it then set FA_TARGET_PID too) is not ours. */
static int take_environment(struct command *command)
{
	const char *text = getenv("FA_OPTIONS");
	struct options *options = &command->options;
	options_init(options);
	if (getenv("FA_TARGET_PID"))
		return 0;
	if (!text || !text[0])
		return 0;
	int result = check_text(text, options);
	if (result < 0)
		return result;
	command->shim_options = strdup(text);
	return command->shim_options ? 0 : -ENOMEM;
}

/* `word` is what getopt_long did not take. */
static int refuse_word(const char *word)
{
	char key[64];
	struct options scratch;
	struct options_error error;
	bool is_long = word[0] == '-' && word[1] == '-';
	snprintf(key, sizeof key, "%.*s", (int)strcspn(word, "="), word);
	options_init(&scratch);
	for (const struct option *option = long_options; is_long && option->name; option++) {
		if (strcmp(option->name, key + 2) != 0)
			continue;
		say("option '%s' takes no value: see fa-run --help", key);
		return -EINVAL;
	}
	if (is_long && options_set(&scratch, key + 2, "", &error) == -ENOENT)
		say("%s", error.line);
	else
		say("unknown option '%s': see fa-run --help", word);
	return -EINVAL;
}

static int parse_words(struct command *command, int argc, char **argv)
{
	int letter, index = 0, result = 0;
	opterr = 0;
	while (result == 0) {
		int word = optind;
		letter = getopt_long(argc, argv, "+:o:m:p:c:h", long_options, &index);
		switch (letter) {
		case -1:
			command->argv = argv + optind;
			return 0;
		case 'o':
			result = set_key(command, "output", optarg);
			break;
		case 'm':
			result = set_key(command, "mode", optarg);
			break;
		case 'p':
			result = set_key(command, "preset", optarg);
			break;
		case 'c':
			result = set_key(command, "policy", optarg);
			break;
		case 'h':
		case LONG_HELP:
			fputs(usage, stdout);
			return 1;
		case LONG_VERSION:
			puts("fa-run (framealloc-shim) " FA_VERSION);
			return 1;
		case LONG_LIST:
			list_options();
			return 1;
		case LONG_LIST_PRESETS:
			presets_list();
			return 1;
		case LONG_SET:
			result = set_pair(command, optarg);
			break;
		case LONG_REPORT:
			command->report = COMMAND_REPORT_YES;
			break;
		case LONG_NO_REPORT:
			command->report = COMMAND_REPORT_NO;
			break;
		case LONG_QUIET:
			command->quiet = true;
			break;
		case LONG_SUGGEST:
			command->suggest = optarg ? optarg : "";
			break;
		case LONG_KEY:
			result = set_key(command, long_options[index].name, optarg ? optarg : "1");
			break;
		case ':':
			say("option '%s' needs a value: see fa-run --help", argv[word]);
			return -EINVAL;
		default:
			return refuse_word(argv[word]);
		}
	}
	return result;
}

int command_parse(struct command *command, int argc, char **argv)
{
	memset(command, 0, sizeof *command);
	int result = take_environment(command);
	if (result == 0)
		result = parse_words(command, argc, argv);
	if (result != 0)
		return result;
	if (!command->argv[0]) {
		say("no COMMAND given: see fa-run --help");
		return -EINVAL;
	}
	struct options scratch;
	result = check_text(command->shim_options ? command->shim_options : "", &scratch);
	return result ? result : policy_check(command);
}
