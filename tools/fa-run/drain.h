/*
 * Level full, the launcher's side: a thread takes the events out of the area that the target shares (core/trace/events.h) and
 * writes them, packed, beside the recording.
 */
#ifndef FA_RUN_DRAIN_H
#define FA_RUN_DRAIN_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct drain;

/* Makes the area; `waits`: who finds the queue full waits. NULL: that failed and has been said. */
struct drain *drain_open(bool waits);

/* The area's file, for the environment of the program. */
const char *drain_path(const struct drain *drain);

/* In the child, before it executes the program: the events are to be those of this process. */
void drain_admit(struct drain *drain);

/* Begins taking events out. All signals are to be blocked. */
void drain_start(struct drain *drain);

/* The program has ended, or never began: takes out what is left, closes the files. Says what failed. */
void drain_finish(struct drain *drain);

#endif
