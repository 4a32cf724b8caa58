/* The command line of fa-report: commands, options, levels, exit status. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/registry/codes.h"
#include "tools/fa-report/levels.h"
#include "tools/fa-report/report.h"

struct command {
	const char *name;
	void (*text)(struct report *report); /* NULL: takes no recording */
	const char *help;
};

static const struct command commands[] = {
	{"summary", cmd_summary, "what the run cost and what stands out (default)"},
	{"violations", cmd_violations, "each violation with its call paths, worst first"},
	{"sites", cmd_sites, "call sites by allocations"},
	{"leaks", cmd_leaks, "what was live at the end, and at the peak"},
	{"frames", cmd_frames, "frames one by one"},
	{"threads", cmd_threads, "threads and their roles"},
	{"markers", cmd_markers, "markers bound and refused"},
	{"regions", cmd_regions, "named regions and their budgets"},
	{"tasks", cmd_tasks, "tasks by kind: polls, bytes, what crossed awaits"},
	{"suggest", cmd_suggest, "a policy file made from the run"},
	{"replay", cmd_replay, "with --route: what other tiers would have done for sites (needs fa-run --level full)"},
	{"dump", cmd_dump, "the recording's records"},
	{"explain", NULL, "CODE: what a code means"},
	{"list", NULL, "[FOLDER|RECORDING]: recordings, one line each"},
	{"policy", NULL, "--check FILE...: what policy files say, and what is wrong in them"},
};

enum {
	OPT_FORMAT = 256,
	OPT_TOP,
	OPT_DENY,
	OPT_WARN,
	OPT_ALLOW,
	OPT_MIN,
	OPT_DENY_WARNINGS,
	OPT_SOURCE,
	OPT_SYSROOT,
	OPT_NO_INLINES,
	OPT_COLOR,
	OPT_CHECK,
	OPT_ROUTE,
	OPT_VERSION
};

static const struct option options[] = {{"format", required_argument, NULL, OPT_FORMAT},
					{"output", required_argument, NULL, 'o'},
					{"top", required_argument, NULL, OPT_TOP},
					{"deny", required_argument, NULL, OPT_DENY},
					{"warn", required_argument, NULL, OPT_WARN},
					{"allow", required_argument, NULL, OPT_ALLOW},
					{"min-severity", required_argument, NULL, OPT_MIN},
					{"deny-warnings", no_argument, NULL, OPT_DENY_WARNINGS},
					{"source-path", required_argument, NULL, OPT_SOURCE},
					{"sysroot", required_argument, NULL, OPT_SYSROOT},
					{"no-inlines", no_argument, NULL, OPT_NO_INLINES},
					{"color", required_argument, NULL, OPT_COLOR},
					{"check", no_argument, NULL, OPT_CHECK},
					{"route", required_argument, NULL, OPT_ROUTE},
					{"help", no_argument, NULL, 'h'},
					{"version", no_argument, NULL, OPT_VERSION},
					{NULL, 0, NULL, 0}};

static struct {
	bool json, check;
	const char *output, *color;
	struct symbols_options symbols;
	struct report_options report;
	struct levels levels;
	const char *sources[32], *routes[64];
} line = {.color = "auto", .levels = {.min_severity = TRACE_LEVEL_HINT}};

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fputs("fa-report: ", stderr);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
	exit(2);
}

static void usage(FILE *out)
{
	fputs("usage: fa-report [COMMAND] RECORDING... [options]\n\ncommands:\n", out);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].help);
	fputs("\noptions:\n"
	      "  --format text|json   what to write\n"
	      "  -o, --output FILE    where to (default: standard output)\n"
	      "  --top N              rows of a table (JSON is never cut)\n"
	      "  --deny CODE          exit with 1 when the code fired (FA601, 601, its name, or all; repeatable)\n"
	      "  --warn CODE, --allow CODE   level of a code\n"
	      "  --min-severity L     show violations from this level on: hint, warning, error\n"
	      "  --deny-warnings      exit with 1 when any warning or error fired\n"
	      "  --source-path DIR    where to look for sources (repeatable)\n"
	      "  --sysroot DIR        where the modules' paths begin\n"
	      "  --no-inlines         functions as they were called, without inlined ones\n"
	      "  --color auto|always|never\n"
	      "  --route SITE=TIER    of replay: a site by its number, its function, or all; frame, pool or heap "
	      "(repeatable)\n"
	      "  --check              of policy: read the files, say what is wrong\n"
	      "  --help, --version\n\n"
	      "exit status: 0 nothing denied; 1 a denied code fired, or may be among violations that could not be\n"
	      "recorded; 2 bad usage, unreadable recording, wrong policy\n",
	      out);
}

static void add_rule(const char *code, enum trace_level level)
{
	const struct code_info *info = strcasecmp(code, "all") ? codes_named(code) : NULL;
	if (!info && strcasecmp(code, "all"))
		fail("no code %s; codes are FA001 to FA902 (fa-report explain CODE), or all", code);
	if (line.levels.rule_count == LEVELS_RULES_MAX)
		fail("more than %u --deny, --warn and --allow", LEVELS_RULES_MAX);
	line.levels.rule[line.levels.rule_count++] = (struct levels_rule){info ? info->number : 0, level};
}

static enum trace_level parse_level(const char *text)
{
	for (int level = TRACE_LEVEL_HINT; level <= TRACE_LEVEL_ERROR; level++)
		if (!strcasecmp(text, text_level((enum trace_level)level)))
			return (enum trace_level)level;
	if (!strcasecmp(text, "warn"))
		return TRACE_LEVEL_WARN;
	if (!strcasecmp(text, "deny"))
		return TRACE_LEVEL_ERROR;
	fail("--min-severity %s: hint, warning or error", text);
}

static void parse_format(const char *text)
{
	line.json = strcmp(text, "json") == 0;
	if (!line.json && strcmp(text, "text"))
		fail("--format %s: this version writes text and json", text);
}

static void parse(int argc, char **argv)
{
	int option;
	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		switch (option) {
		case OPT_FORMAT:
			parse_format(optarg);
			break;
		case 'o':
			line.output = optarg;
			break;
		case OPT_TOP: {
			char *end;
			line.report.top = strtoul(optarg, &end, 10);
			if (*end || !line.report.top || *optarg == '-')
				fail("--top %s: a number from 1 on", optarg);
			break;
		}
		case OPT_DENY:
			add_rule(optarg, TRACE_LEVEL_ERROR);
			break;
		case OPT_WARN:
			add_rule(optarg, TRACE_LEVEL_WARN);
			break;
		case OPT_ALLOW:
			add_rule(optarg, TRACE_LEVEL_ALLOW);
			break;
		case OPT_MIN:
			line.levels.min_severity = parse_level(optarg);
			break;
		case OPT_DENY_WARNINGS:
			line.levels.deny_warnings = true;
			break;
		case OPT_SOURCE:
			if (line.report.source_paths == sizeof line.sources / sizeof *line.sources)
				fail("more than %zu --source-path", line.report.source_paths);
			if (access(optarg, X_OK))
				fail("--source-path %s: %s", optarg, strerror(errno));
			line.sources[line.report.source_paths++] = optarg;
			break;
		case OPT_SYSROOT:
			line.symbols.sysroot = optarg;
			break;
		case OPT_NO_INLINES:
			line.symbols.no_inlines = true;
			break;
		case OPT_COLOR:
			if (strcmp(optarg, "auto") && strcmp(optarg, "always") && strcmp(optarg, "never"))
				fail("--color %s: auto, always or never", optarg);
			line.color = optarg;
			break;
		case OPT_ROUTE:
			if (line.report.routes == sizeof line.routes / sizeof *line.routes)
				fail("more than %zu --route", line.report.routes);
			line.routes[line.report.routes++] = optarg;
			break;
		case OPT_CHECK:
			line.check = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case OPT_VERSION:
			puts("fa-report " FA_VERSION);
			exit(0);
		default:
			fputs("fa-report: see fa-report --help\n", stderr);
			exit(2);
		}
	}
	line.report.source_path = line.sources;
	line.report.route = line.routes;
}

static bool wants_color(FILE *out)
{
	if (!strcmp(line.color, "always"))
		return true;
	const char *no_color = getenv("NO_COLOR");
	return !strcmp(line.color, "auto") && !(no_color && *no_color) && isatty(fileno(out));
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int without_recording(const struct command *command, FILE *out, const char *argument)
{
	if (!strcmp(command->name, "list")) {
		char *folder = NULL;
		const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
		if (!argument && asprintf(&folder, "%s%s/framealloc",
					  state && *state ? state
					  : home          ? home
							  : "",
					  state && *state ? "" : "/.local/state") < 0)
			abort();
		int status = cmd_list(out, argument ? argument : folder, line.json);
		free(folder);
		return status;
	}
	if (!argument)
		fail("explain wants a code, such as FA601");
	if (!strcasecmp(argument, "all")) {
		for (size_t i = 0; i < codes_count(); i++)
			fprintf(out, "FA%03u  %-32s %s\n", codes_at(i)->number, codes_at(i)->name,
				text_level(codes_at(i)->level));
		return 0;
	}
	return cmd_explain(out, argument, line.json);
}

/* Beside --output, whose place it takes when it is whole: what failed leaves no half of a report, and what was there stays. */
static char *unfinished;

static void remove_unfinished(void)
{
	if (unfinished)
		unlink(unfinished);
}

static FILE *open_output(void)
{
	if (!line.output)
		return stdout;
	struct stat there, name;
	bool exists = !stat(line.output, &there);
	bool is_link = !lstat(line.output, &name) &&
		       S_ISLNK(name.st_mode); /* /dev/stdout, say: what takes its place is no link */
	bool is_events = exists && reader_is_events(line.output);
	if (is_events || (exists && reader_is_recording(line.output)))
		fail("--output %s: that is %s; a report needs a name of its own", line.output,
		     is_events ? "a recording's file of events" : "a recording");
	FILE *out = NULL;
	if (is_link || (exists && !S_ISREG(there.st_mode))) {
		out = fopen(line.output, "w");
	} else {
		mode_t mask = umask(0);
		umask(mask);
		if (asprintf(&unfinished, "%s.XXXXXX", line.output) < 0)
			abort();
		int fd = mkstemp(unfinished);
		if (fd >= 0) {
			atexit(remove_unfinished);
			fchmod(fd, exists ? there.st_mode & 0777 : 0666 & ~mask);
			out = fdopen(fd, "w");
		}
	}
	if (!out)
		fail("--output %s: %s", line.output, strerror(errno));
	return out;
}

static void close_output(FILE *out)
{
	const char *name = line.output ? line.output : "standard output";
	if (fflush(out) || ferror(out))
		fail("%s: %s", name, strerror(errno));
	if (unfinished && rename(unfinished, line.output))
		fail("%s: %s", name, strerror(errno));
	free(unfinished);
	unfinished = NULL;
}

static int check_policies(char *const *paths)
{
	if (!line.check || !*paths)
		fail("policy wants --check and a FILE");
	if (line.json)
		fail("policy --check writes text only");
	FILE *out = open_output();
	int status = cmd_policy(out, paths);
	close_output(out);
	return status;
}

/* What was lost counts as well: whoever denies a code wants to hear that it did not fire. */
static bool is_denied(struct report *report)
{
	const struct model *model = &report->model;
	if (levels_apply(&line.levels, &report->model))
		return true;
	bool may_be = levels_may_be_denied(&line.levels, model);
	if (may_be)
		fprintf(stderr, "fa-report: %s: %s violation%s could not be recorded; a denied code may have fired\n",
			report->path, text_count(model->violations_lost), text_plural(model->violations_lost));
	return may_be;
}

static int with_recording(const struct command *command, FILE *out, bool color, const char *path)
{
	struct report report = {.path = path, .options = line.report, .out = out};
	if (reader_open(&report.reader, path))
		fail("%s", report.reader.damage);
	if (report.reader.damage[0])
		fprintf(stderr, "fa-report: %s\n", report.reader.damage);
	if (model_build(&report.model, &report.reader) ||
	    !(report.symbols = symbols_open(&report.reader, &line.symbols)))
		fail("%s: out of memory", path);
	suppress_apply(&report);
	bool denied = is_denied(&report);
	report.options.color = color;
	if (line.json)
		out_json(&report);
	else
		command->text(&report);
	symbols_close(report.symbols);
	model_free(&report.model);
	reader_close(&report.reader);
	return denied ? 1 : 0;
}

/* `rest`: what follows the command, or stands without one. */
static void check_arguments(const struct command *command, const struct command *named, char *const *rest)
{
	size_t count = 0;
	while (rest[count])
		count++;
	if (!command->text) {
		if (count > 1)
			fail("%s takes one argument; %s is too much", command->name, rest[1]);
		return;
	}
	if (!count && !named) {
		usage(stderr);
		exit(2);
	}
	if (!count)
		fail("%s wants a RECORDING", command->name);
	if (!named && count > 1 && access(rest[0], F_OK))
		fail("no command %s; fa-report --help lists them", rest[0]);
	for (size_t i = 1; i < count; i++)
		if (find_command(rest[i]) && access(rest[i], F_OK))
			fail("the command comes first: fa-report %s %s", rest[i], rest[0]);
	if (line.json && count > 1)
		fail("--format json takes one recording; %s is too much", rest[1]);
	if (line.json && command->text == cmd_replay)
		fail("replay writes text only");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL);
	parse(argc, argv);
	const struct command *named = optind < argc ? find_command(argv[optind]) : NULL;
	const struct command *command = named ? named : &commands[0];
	optind += named != NULL;
	if (!strcmp(command->name, "policy"))
		return check_policies(argv + optind);
	if (line.check)
		fail("--check belongs to the command policy");
	check_arguments(command, named, argv + optind);
	FILE *out = open_output();
	bool color = !line.json && wants_color(out);
	FILE *text = line.json ? out : printable_open(out, color);
	if (!text)
		fail("out of memory");
	int status = 0;
	if (!command->text)
		status = without_recording(command, text, argv[optind]);
	for (int i = optind; command->text && i < argc; i++) {
		if (i > optind)
			fputc('\n', text);
		status |= with_recording(command, text, color, argv[i]);
	}
	if (text != out)
		(void)fclose(text); /* what went wrong shows in `out` */
	if (status < 2)
		close_output(out);
	return status;
}
