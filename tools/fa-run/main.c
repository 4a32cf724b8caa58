/*
 * fa-run: starts a program under libframealloc.so and sees to its recording. The order is the design: everything that
 * can be wrong is checked before the program starts, nothing of the program is touched while it runs, and its exit
 * status is the last word.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/fa-run/command.h"
#include "tools/fa-run/drain.h"
#include "tools/fa-run/launch.h"
#include "tools/fa-run/program.h"
#include "tools/fa-run/recording.h"
#include "tools/fa-run/say.h"
#include "tools/fa-run/status.h"
#include "tools/fa-run/watch.h"

/* A descriptor 0, 1 or 2 that is closed must not become that of a file of ours: lines for stderr would go there. The
   program still finds it closed. */
static void occupy_standard_descriptors(void)
{
	int fd;
	while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd > STDERR_FILENO)
		close(fd);
}

/* fa-report's `what` of the recording, to `out` or to standard error. */
static void report(const char *what, const char *path, const char *out)
{
	char tool[PATH_MAX];
	if (!launch_sibling("fa-report", tool)) {
		say("no %s: fa-report is not beside fa-run", what);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (out[0])
			execl(tool, "fa-report", what, path, "-o", out, (char *)NULL);
		else
			execl(tool, "fa-report", what, path, (char *)NULL);
		_exit(EXIT_NOT_FOUND);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) > 1)
		say("fa-report %s %s failed", what, path);
}

static void conclude(const struct command *command, struct recording *recording, int wait_status)
{
	recording_finish(recording, wait_status);
	bool wanted = command->report == COMMAND_REPORT_YES ||
		      (command->report == COMMAND_REPORT_AUTO && !command->quiet && isatty(STDERR_FILENO));
	if (wanted && recording->ready)
		report("summary", recording->latest, "");
	if (command->suggest && recording->ready)
		report("suggest", recording->latest, command->suggest);
	if (recording->ready && !command->quiet && (wanted || isatty(STDERR_FILENO)))
		say("recording: %s", recording->latest);
}

static int run(const struct command *command)
{
	char path[PATH_MAX], library[PATH_MAX];
	struct program program;
	int error = program_find(command->argv[0], path);
	if (error) {
		say("%s: %s", command->argv[0], error == -ENOENT ? "not found" : strerror(-error));
		return error == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
	}
	program_inspect(path, &program);
	if (program.suits && launch_find_library(library))
		return EXIT_FA_RUN;
	if (!program.suits)
		say("%s: it runs untouched and unrecorded", program.why);

	sigset_t before;
	watch_block_signals(&before);
	struct sigaction chld, chld_default = {.sa_handler = SIG_DFL};
	sigaction(SIGCHLD, &chld_default, &chld);

	const char *slash = strrchr(path, '/');
	struct launch launch = {.file = path,
				.library = program.suits ? library : NULL,
				.jemalloc_names = program.uses_jemalloc,
				.exe_name = slash ? slash + 1 : path,
				.mask = &before,
				.ignore_children = chld.sa_handler == SIG_IGN,
				.records = program.suits && command->options.mode != TRACE_MODE_OFF};
	if (launch.records && command->options.level_full &&
	    !(launch.drain = drain_open(!command->options.events_lose)))
		return EXIT_FA_RUN;
	struct recording recording;
	pid_t pid = launch_start(&launch, command, &recording);
	if (launch.drain && pid > 0)
		drain_start(launch.drain);
	if (pid < 0) {
		if (launch.drain)
			drain_finish(launch.drain);
		return -pid;
	}

	struct status status = {.recording = &recording};
	bool live = launch.records && !command->quiet && isatty(STDERR_FILENO);
	int wait_status = watch_program(pid, launch.records ? &recording : NULL, library, live ? &status : NULL);
	if (launch.drain)
		drain_finish(launch.drain);
	if (launch.records)
		conclude(command, &recording, wait_status);
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

int main(int argc, char **argv)
{
	static struct command command;
	occupy_standard_descriptors();
	int result = command_parse(&command, argc, argv);
	if (result)
		return result < 0 ? EXIT_FA_RUN : EXIT_SUCCESS;
	return run(&command);
}
