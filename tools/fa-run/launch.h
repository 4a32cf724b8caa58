/* Starting the program: its environment, and the meeting of launcher and child that settles the recording's path. */
#ifndef FA_RUN_LAUNCH_H
#define FA_RUN_LAUNCH_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tools/fa-run/command.h"
#include "tools/fa-run/drain.h"
#include "tools/fa-run/recording.h"

struct launch {
	const char *file; /* what is executed */
	const char *library; /* absolute; NULL: the program runs untouched */
	bool jemalloc_names; /* preload libframealloc-jemalloc.so from the same folder too */
	const char *exe_name; /* %e */
	const sigset_t *mask; /* signal mask of fa-run's own start, given back to the program */
	bool ignore_children; /* SIGCHLD was ignored at fa-run's start, and will be at the program's */
	bool records; /* a recording is to be expected */
	struct drain *drain; /* of its events; NULL: none are taken */
};

/* Starts the program. Returns its pid and fills `recording` (when one is expected), or the exit status of fa-run,
   negated, when it could not; that has been said. */
pid_t launch_start(const struct launch *launch, const struct command *command, struct recording *recording);

/* Finds libframealloc.so: FA_LIBRARY, beside fa-run, ../lib/framealloc. Returns 0, or -ENOENT, said. */
int launch_find_library(char path[PATH_MAX]);

/* The path of another program of ours beside fa-run; false when it is not there. */
bool launch_sibling(const char *name, char path[PATH_MAX]);

#endif
