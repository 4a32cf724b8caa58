/*
 * Frames: begun and ended by markers. A boundary ends the open frame and begins the next; a frame scope begins one at a
 * function's entry and ends it at its return.
 */
#ifndef FA_SCOPE_H
#define FA_SCOPE_H

#include "core/thread.h"

/* A frame boundary on the calling thread. `fp`: frame of the marked function's caller side, for the call path.
   `marker` is the marker's record index. Cost: some 50 ns, a fifth of them the time stamp counter's, plus a walk of the spans that stay pinned. */
void scope_frame_boundary(struct thread *thread, uint32_t marker, const uintptr_t *fp);

/* Ends the open frame without beginning another; nothing when none is open. */
void scope_frame_end(struct thread *thread);

/* A boundary that blocks returns: the time since is idle, not frame time. */
void scope_idle_end(struct thread *thread);

/* An await point was passed. */
void scope_await(struct thread *thread);

/* Remembers where it is: `fp` as for a boundary. One compare, where the same call comes again from the same place. */
void scope_await_path(struct thread *thread, const uintptr_t *fp);
static always_inline bool scope_await_path_known(const struct thread *thread, const uintptr_t *fp)
{
	return fp[1] == thread->await_return && (uintptr_t)fp == thread->await_stack;
}

/* FA301: bytes a frame may allocate from now on, in place of the option's; 0: as many as it likes. Any thread. */
void scope_budget_set(uint64_t bytes);

/* What follows from the open frame and the present task: where blocks go and how they are counted. */
void scope_settle(struct thread *thread);

/* Between these the thread works for somebody else: what is born is not the open frame's. Pauses nest as one; a boundary
   ends them. */
void scope_pause(struct thread *thread);
void scope_resume_paused(struct thread *thread);
static always_inline void scope_resume(struct thread *thread)
{
	if (unlikely(thread->frame_paused))
		scope_resume_paused(thread);
}

/* The thread's allocations belong to the region `tag` from now on. */
void scope_tag(struct thread *thread, uint32_t tag);

/* Looked at when the thread's live bytes grow: whether its frames are another thread's by now, and FA604. */
void scope_end_abandoned(struct thread *thread);
void scope_check_never_ends(struct thread *thread);

/* Takes a site out of this thread's frame tier; for good where the thread has THREAD_DEMOTED_MAX of them already. */
void scope_demote(struct thread *thread, uint32_t site);
/* A site that is new to this thread begins outside the frame tier, until its blocks have shown that they die in their frames.
   Called where spans are sparse: a level that is loaded comes by thousands of paths, once each, and what stays pins spans. `size`
   is of its first block; what no pool holds stays where it would be. */
void scope_begin_outside(struct thread *thread, struct trace_counter *counter, size_t size);
/* A demoted site returns when a whole window of frames saw enough of its blocks and none escaped. At a frame's end; general
   registers only. */
void scope_judge_demotions(struct thread *thread);
/* A block of the site pins `share` bytes of its span at a frame's end. */
void scope_survivor(struct thread *thread, uint32_t site, size_t share);

#endif
