/* Waiting for the program while signals, job control, the handshake and the status line go on. */
#ifndef FA_RUN_WATCH_H
#define FA_RUN_WATCH_H

#include <signal.h>
#include <stdbool.h>

#include "tools/fa-run/recording.h"
#include "tools/fa-run/status.h"

/* Blocks every signal that watch_program hands on; `before` is the mask to give to the program. */
void watch_block_signals(sigset_t *before);

/* Returns the program's wait status once it ended. `recording` is NULL when none is expected, `status` when no line is
   to be drawn. */
int watch_program(pid_t pid, struct recording *recording, const char *library, struct status *status);

#endif
