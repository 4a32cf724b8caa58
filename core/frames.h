/* The frame records of a thread: the last ones whole, older ones merged pairwise, histograms of all (DESIGN §7). General
   registers only. */
#ifndef FA_FRAMES_H
#define FA_FRAMES_H

#include "core/thread.h"
#include "core/trace/writer.h"

/* Where the record of the thread's open frame is to be written, in the place of its oldest one. NULL: there is no room, it is
   counted as lost. */
struct trace_frame *frames_place(struct thread *thread);
/* It has been written: it counts from now on. */
void frames_add(struct thread *thread, const struct trace_frame *frame);

void frames_child(void);

#endif
