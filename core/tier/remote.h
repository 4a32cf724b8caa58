/*
 * Frees by other threads: one atomic operation puts the block into the owner's ring, from where the owner takes all that is
 * there in its slow paths and at its boundaries. A ring, since the lines of the blocks were last written by another
 * processor: what a chain makes one wait for one after the other can be fetched all at once. What finds the ring full is
 * chained. Frees from a signal handler that interrupted its own thread's operation come the same way.
 */
#ifndef FA_TIER_REMOTE_H
#define FA_TIER_REMOTE_H

#include "core/thread.h"

/* `block` is marked dead and accounted for; its birth word may become a link. Any thread, also in signal handlers. */
static inline void remote_push(struct thread *owner, struct block *block)
{
	uint64_t place = atomic_load_explicit(&owner->remote_pushed, memory_order_relaxed);
	/* Negative where others have pushed since, and the owner has taken: then the exchange fails. */
	while ((int64_t)(place - atomic_load_explicit(&owner->remote_taken, memory_order_acquire)) < (int64_t)THREAD_REMOTE_RING)
		if (atomic_compare_exchange_weak_explicit(&owner->remote_pushed, &place, place + 1, memory_order_relaxed,
		                                          memory_order_relaxed)) {
			atomic_store_explicit(&owner->remote_ring[place % THREAD_REMOTE_RING], block, memory_order_release);
			return;
		}
	struct block *head = atomic_load_explicit(&owner->remote_more, memory_order_relaxed);
	do
		__atomic_store_n(&block->birth, (uint64_t)head, __ATOMIC_RELEASE); /* after it was marked dead: frame.c */
	while (!atomic_compare_exchange_weak_explicit(&owner->remote_more, &head, block, memory_order_release,
	                                              memory_order_relaxed));
}

/* Takes back what waits for the calling thread's slot. Returns the number of blocks. */
uint64_t remote_take(struct thread *thread);
static always_inline bool remote_waits(const struct thread *thread)
{
	return atomic_load_explicit(&thread->remote_pushed, memory_order_relaxed) !=
	               atomic_load_explicit(&thread->remote_taken, memory_order_relaxed) ||
	       atomic_load_explicit(&thread->remote_more, memory_order_relaxed);
}

static always_inline uint64_t remote_drain(struct thread *thread)
{
	return unlikely(remote_waits(thread)) ? remote_take(thread) : 0;
}

/* Gives a dead, accounted block to its tier: at once on the owner's thread, else through its queue. */
void remote_give(struct thread *thread, struct block *block, bool nested);

#endif
