/* The frame records of a thread: the last ones whole, older ones merged pairwise, histograms of all (DESIGN §7). General
   registers only. */
#ifndef FA_FRAMES_H
#define FA_FRAMES_H

#include "core/thread.h"
#include "core/trace/writer.h"

/* Writes the record of the thread's open frame, which ends at `now` with these totals and so many bytes pinned, in the place of
   its oldest one. Where there is no room it is counted as lost. */
void frames_record(struct thread *thread, uint64_t now, const struct thread_edge *edge, size_t pinned);

void frames_child(void);

#endif
