/* The frame records of a thread: the last ones whole, older ones merged pairwise, histograms of all (DESIGN §7). */
#ifndef FA_FRAMES_H
#define FA_FRAMES_H

#include "core/thread.h"
#include "core/trace/writer.h"

/* Appends a completed frame of `thread`. */
void frames_append(struct thread *thread, const struct trace_frame *frame);

void frames_child(void);

#endif
