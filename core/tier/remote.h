/*
 * Frees by other threads: one atomic push onto the owner's queue, taken back by the owner in its slow paths and at its
 * boundaries. Frees from a signal handler that interrupted its own thread's operation come the same way.
 */
#ifndef FA_TIER_REMOTE_H
#define FA_TIER_REMOTE_H

#include "core/thread.h"

/* `block` is marked dead and accounted for; its birth word becomes the link. Any thread, also in signal handlers. */
static inline void remote_push(struct thread *owner, struct block *block)
{
	struct block *head = atomic_load_explicit(&owner->remote, memory_order_relaxed);
	do
		__atomic_store_n(&block->birth, (uint64_t)head, __ATOMIC_RELEASE); /* after it was marked dead: frame.c */
	while (!atomic_compare_exchange_weak_explicit(&owner->remote, &head, block, memory_order_release,
	                                              memory_order_relaxed));
}

/* Takes back what waits for the calling thread's slot. Returns the number of blocks. */
uint64_t remote_drain(struct thread *thread);

/* Gives a dead, accounted block to its tier: at once on the owner's thread, else through its queue. */
void remote_give(struct thread *thread, struct block *block, bool nested);

#endif
