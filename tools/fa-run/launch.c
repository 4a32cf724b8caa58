/*
 * Forks the program. The recording's name holds the program's pid, so the child waits after the fork until the parent
 * has settled the path, then sets its environment and executes; a failed exec comes back through the same socket, and
 * a successful one closes it. The program inherits exactly the descriptors and signal settings of fa-run's start.
 */
#define _GNU_SOURCE
#include "tools/fa-run/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/fa-run/program.h"
#include "tools/fa-run/say.h"

static bool own_folder(char folder[PATH_MAX])
{
	ssize_t bytes = readlink("/proc/self/exe", folder, PATH_MAX - 1);
	if (bytes <= 0)
		return false;
	folder[bytes] = 0;
	*strrchr(folder, '/') = 0;
	return true;
}

static bool beside(const char *relative, char path[PATH_MAX])
{
	char folder[PATH_MAX], joined[PATH_MAX + 64];
	if (!own_folder(folder))
		return false;
	snprintf(joined, sizeof joined, "%s/%s", folder, relative);
	return realpath(joined, path) != NULL;
}

bool launch_sibling(const char *name, char path[PATH_MAX])
{
	return beside(name, path) && access(path, X_OK) == 0;
}

int launch_find_library(char path[PATH_MAX])
{
	const char *given = getenv("FA_LIBRARY");
	if (given && given[0]) {
		if (!realpath(given, path)) {
			say("FA_LIBRARY=%s: %s", given, strerror(errno));
			return -ENOENT;
		}
	} else if (!beside("libframealloc.so", path) && !beside("../lib/framealloc/libframealloc.so", path)) {
		say("libframealloc.so is neither beside fa-run nor in ../lib/framealloc; FA_LIBRARY can name it");
		return -ENOENT;
	}
	if (strpbrk(path, ": \t\n")) {
		say("the path of libframealloc.so has a blank or colon, which LD_PRELOAD cannot hold: %s", path);
		return -ENOENT;
	}
	return 0;
}

static void set_environment(const struct launch *launch, const struct command *command, const char *output)
{
	char number[16];
	snprintf(number, sizeof number, "%d", (int)getpid());
	setenv("FA_TARGET_PID", number, 1);
	if (launch->drain) {
		setenv("FA_EVENTS", drain_path(launch->drain), 1);
		drain_admit(launch->drain);
	} else {
		unsetenv("FA_EVENTS");
	}

	char *text = command->shim_options;
	if (output[0]) {
		char escaped[2 * OPTIONS_PATH_BYTES], *at = escaped;
		for (; *output; output++) { /* `output` is a template again on the other side */
			if (*output == '%')
				*at++ = '%';
			*at++ = *output;
		}
		*at = 0;
		text = command_append(text, "output", escaped);
	}
	setenv("FA_OPTIONS", text ? text : "", 1);

	const char *others = getenv("LD_PRELOAD");
	char names[PATH_MAX + 32], *preload = NULL;
	snprintf(names, sizeof names, ":%.*s/libframealloc-jemalloc.so",
		 (int)(strrchr(launch->library, '/') - launch->library), launch->library);
	if (!launch->jemalloc_names || access(names + 1, R_OK))
		names[0] = 0;
	if (asprintf(&preload, "%s%s%s%s", launch->library, names, others && others[0] ? ":" : "",
		     others ? others : "") < 0)
		abort();
	setenv("LD_PRELOAD", preload, 1);
}

static _Noreturn void run_child(const struct launch *launch, const struct command *command, int socket)
{
	char path[OPTIONS_PATH_BYTES];
	ssize_t bytes = recv(socket, path, sizeof path, MSG_WAITALL);
	if (bytes != (ssize_t)sizeof path)
		_exit(EXIT_FA_RUN); /* the launcher gave up */
	if (launch->library)
		set_environment(launch, command, path);
	if (launch->ignore_children)
		signal(SIGCHLD, SIG_IGN);
	sigprocmask(SIG_SETMASK, launch->mask, NULL);
	execv(launch->file, command->argv);
	int error = errno;
	if (error == ENOEXEC && program_is_text(launch->file)) { /* a shell's own habit is to run it as a script */
		size_t count = 0;
		while (command->argv[count])
			count++;
		char **arguments = calloc(count + 2, sizeof *arguments);
		if (arguments) {
			arguments[0] = (char *)"sh";
			arguments[1] = (char *)launch->file;
			memcpy(arguments + 2, command->argv + 1, count * sizeof *arguments);
			execv("/bin/sh", arguments);
		}
	}
	send(socket, &error, sizeof error, MSG_NOSIGNAL);
	_exit(EXIT_CANNOT_RUN);
}

pid_t launch_start(const struct launch *launch, const struct command *command, struct recording *recording)
{
	int sockets[2], error = 0;
	char path[OPTIONS_PATH_BYTES] = "";
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) {
		say("cannot start the program: %s", strerror(errno));
		return -EXIT_FA_RUN;
	}
	pid_t pid = fork();
	if (pid < 0) {
		say("cannot start the program: %s", strerror(errno));
		close(sockets[0]);
		close(sockets[1]);
		return -EXIT_FA_RUN;
	}
	if (pid == 0) {
		close(sockets[0]); /* else it would not see the launcher's end */
		run_child(launch, command, sockets[1]);
	}
	close(sockets[1]);

	bool start = true;
	if (launch->records) {
		start = recording_choose(recording, command->options.output, launch->exe_name, pid,
					 command->options.level_full) == 0;
		memcpy(path, recording->path, sizeof path);
	}
	if (start)
		send(sockets[0], path, sizeof path, MSG_NOSIGNAL);
	else
		shutdown(sockets[0], SHUT_WR);
	ssize_t bytes = recv(sockets[0], &error, sizeof error, MSG_WAITALL);
	close(sockets[0]);
	if (start && bytes != (ssize_t)sizeof error)
		return pid;
	waitpid(pid, NULL, 0);
	if (!start)
		return -EXIT_FA_RUN;
	say("%s: %s", command->argv[0], strerror(error));
	return error == ENOENT ? -EXIT_NOT_FOUND : -EXIT_CANNOT_RUN;
}
