/*
 * Slots: thread states with the tables that go with them. A slot outlives its thread and is handed to the next one as it is
 * (thread.h); its memory is wiped in the child of a fork.
 */
#ifndef FA_SLOT_H
#define FA_SLOT_H

#include "core/thread.h"

/* A free slot, made when there is none; those that were used last come first: they are warm. NULL: there are too many threads, or
   there is no memory. */
struct thread *slot_take(void);
void slot_give(struct thread *thread);

/* How many were made, and the state of one; NULL: it was not. Any thread, without a lock. */
uint32_t slot_count(void);
struct thread *slot_at(uint32_t slot);

/* Takes back, for a few slots that no thread has now, what others have freed: blocks of threads that have ended. */
void slot_reclaim_idle(void);

/* The table of size classes, where call paths are not recorded. False: there is no memory for it. */
bool slot_make_classes(struct thread *thread);

/* The cache of call paths of deaths and markers, which many threads do without. False: there is no memory for it. */
bool slot_make_other_paths(struct thread *thread);

/* Its cache of allocations' call paths answers with its counters: once it has those of site 0, which stand for none. */
void slot_own_paths(struct thread *thread);

/* Forgets which call path belongs to which site, so that paths that were folded outside frames are kept whole now. */
void slot_forget_paths(struct thread *thread);

/* Call-path figures of all slots so far, into the recording's header. */
void slot_note_path_stats(void);

/* In the child of a fork: it has no threads. */
void slot_child(void);

#endif
