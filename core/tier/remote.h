/*
 * Frees by other threads: a thread gathers a few blocks of the same owner and puts them into the owner's ring by one atomic
 * operation, from where the owner takes all that is there in its slow paths and at its boundaries. A ring, since the lines
 * of the blocks were last written by another processor: what a chain makes one wait for one after the other can be fetched
 * all at once. What finds the ring full is chained, and costs its owner twice as much. Frees from a signal handler that
 * interrupted its own thread's operation come the same way, one by one.
 *
 * What is gathered is dead and accounted for; only its room waits, for the thread's next free elsewhere, allocation that
 * takes the general path, frame end, or end.
 */
#ifndef FA_TIER_REMOTE_H
#define FA_TIER_REMOTE_H

#include "core/thread.h"

/* `blocks` are marked dead and accounted for; their birth words may become links. Any thread, also in signal handlers. */
void remote_push(struct thread *owner, struct block *const *blocks, uint32_t count);

/* Hands on what the calling thread has gathered. */
void remote_flush(struct thread *thread);

/* Gathers a dead, accounted block of a span or slab of another thread's. */
static always_inline void remote_gather(struct thread *thread, struct thread *owner, struct block *block)
{
	if (unlikely(thread->gathered_for != owner)) {
		remote_flush(thread);
		thread->gathered_for = owner;
	}
	thread->gathered[thread->gathered_count++] = block;
	if (thread->gathered_count == THREAD_GATHERED)
		remote_flush(thread);
}

/* Blocks that wait for the slot. */
static inline uint64_t remote_backlog(const struct thread *thread)
{
	return atomic_load_explicit(&thread->remote_pushed, memory_order_relaxed) -
	       atomic_load_explicit(&thread->remote_taken, memory_order_relaxed) +
	       atomic_load_explicit(&thread->remote_chained, memory_order_relaxed) - thread->remote_unchained;
}

/* Takes back what waits for the calling thread's slot, or much of it. Returns the number of blocks. */
uint64_t remote_take(struct thread *thread);
static always_inline bool remote_waits(const struct thread *thread)
{
	return atomic_load_explicit(&thread->remote_pushed, memory_order_relaxed) !=
		       atomic_load_explicit(&thread->remote_taken, memory_order_relaxed) ||
	       atomic_load_explicit(&thread->remote_more, memory_order_relaxed) || thread->remote_rest;
}

static always_inline uint64_t remote_drain(struct thread *thread)
{
	return unlikely(remote_waits(thread)) ? remote_take(thread) : 0;
}

/* Gives a dead, accounted block to its tier: at once on the owner's thread, else through its queue. */
void remote_give(struct thread *thread, struct block *block, bool nested);

#endif
