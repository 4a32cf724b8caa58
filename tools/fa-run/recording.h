/* The recording from the launcher's side: its path, whether the program began it, what is noted in it at the end. */
#ifndef FA_RUN_RECORDING_H
#define FA_RUN_RECORDING_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/registry/options.h"
#include "core/trace/format.h"

/* An exec in the program's process begins a new recording beside the first: PATH.1, PATH.2 … (children that are
   followed take such names too, and are passed over). */
struct recording {
	char path[OPTIONS_PATH_BYTES]; /* absolute */
	char latest[OPTIONS_PATH_BYTES + 16]; /* of the program that the process runs now */
	unsigned next; /* number to look for next beside the first */
	pid_t pid; /* of the program */
	bool unwritable; /* that was said before the program ran */
	bool ready; /* recording_ready() was true once */
};

/* Settles the path from the template ("" = default) and makes room: a finished recording that stands there is removed with its
   events, a default name never collides. `events`: they will be recorded too. Returns 0, or -EEXIST / -ENAMETOOLONG when the run must not start, which then has
   been said. A folder that cannot be written is said and no error: the program runs unrecorded. */
int recording_choose(struct recording *recording, const char *template_text, const char *exe_name, pid_t pid,
		     bool events);

/* True once the program's shim has made the recording: at the path, or beside another start's that took it meanwhile. */
bool recording_ready(struct recording *recording);

/* Moves `latest` on to the newest program of the process and notes the end of those before it. */
void recording_advance(struct recording *recording);

/* Says in one sentence why there is no recording. `running`: the program still is. */
void recording_explain(const struct recording *recording, const char *library, bool running, int wait_status);

/* Notes in the latest header how the program ended (status as from waitpid). */
void recording_finish(struct recording *recording, int wait_status);

/* Reads the header; false when there is none of a recording that this tool knows. */
bool recording_header(int fd, struct trace_header *header);

#endif
