/* Where dead blocks go home. */
#include "core/tier/remote.h"

#include "core/tier/direct.h"
#include "core/tier/frame.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"

#define AHEAD 16u /* blocks fetched before they are looked at */
#define CHAIN_AT_ONCE 1024u /* blocks of a chain that one operation takes back: it is not to wait for all */

static struct thread *owner_of(struct block *block, enum trace_tier tier)
{
	return tier == TRACE_TIER_FRAME ? frame_span_of(block)->owner : pool_slab_of(block)->owner;
}

static void give_local(struct thread *thread, struct block *block, enum trace_tier tier)
{
	if (tier == TRACE_TIER_FRAME)
		frame_give(thread, block, block_size(block));
	else if (tier == TRACE_TIER_POOL)
		pool_give(thread, block);
	else if ((uint32_t)tier == BLOCK_DIRECT)
		direct_free(block);
	else
		heap_free(block);
}

static void give_back(struct thread *thread, struct block *block)
{
	give_local(thread, block, (enum trace_tier)(block_tag(block) & 3));
}

uint64_t remote_take(struct thread *thread)
{
	uint64_t first = atomic_load_explicit(&thread->remote_taken, memory_order_relaxed), next = first;
	uint64_t end = atomic_load_explicit(&thread->remote_pushed, memory_order_relaxed), ahead = first, count;
	for (; next != end; next++) {
		for (; ahead != end && ahead < next + AHEAD; ahead++) /* a place may be given out and still empty */
			__builtin_prefetch(atomic_load_explicit(&thread->remote_ring[ahead % THREAD_REMOTE_RING],
								memory_order_relaxed),
					   1);
		_Atomic(struct block *) *place = &thread->remote_ring[next % THREAD_REMOTE_RING];
		struct block *block = atomic_load_explicit(place, memory_order_acquire);
		if (!block)
			break;
		atomic_store_explicit(place, NULL, memory_order_relaxed);
		give_back(thread, block);
	}
	atomic_store_explicit(&thread->remote_taken, next, memory_order_release);
	count = next - first;
	struct block *block = thread->remote_rest;
	if (!block && atomic_load_explicit(&thread->remote_more, memory_order_relaxed))
		block = atomic_exchange_explicit(&thread->remote_more, NULL, memory_order_acquire);
	uint64_t unchained = 0;
	for (; block && unchained < CHAIN_AT_ONCE; unchained++) {
		struct block *following = (struct block *)block->birth;
		give_back(thread, block);
		block = following;
	}
	thread->remote_rest = block;
	thread->remote_unchained += unchained;
	return count + unchained;
}

void remote_push(struct thread *owner, struct block *const *blocks, uint32_t count)
{
	uint64_t place = atomic_load_explicit(&owner->remote_pushed, memory_order_relaxed);
	/* Negative where others have pushed since, and the owner has taken: then the exchange fails. */
	while ((int64_t)(place + count - atomic_load_explicit(&owner->remote_taken, memory_order_acquire)) <=
	       (int64_t)THREAD_REMOTE_RING)
		if (atomic_compare_exchange_weak_explicit(&owner->remote_pushed, &place, place + count,
							  memory_order_relaxed, memory_order_relaxed)) {
			for (uint32_t i = 0; i < count; i++)
				atomic_store_explicit(&owner->remote_ring[(place + i) % THREAD_REMOTE_RING], blocks[i],
						      memory_order_release);
			return;
		}
	atomic_fetch_add_explicit(&owner->remote_chained, count, memory_order_relaxed);
	struct block *head = atomic_load_explicit(&owner->remote_more, memory_order_relaxed);
	for (uint32_t i = 0; i < count; i++)
		do
			__atomic_store_n(&blocks[i]->birth, (uint64_t)head,
					 __ATOMIC_RELEASE); /* after it was marked dead: frame.c */
		while (!atomic_compare_exchange_weak_explicit(&owner->remote_more, &head, blocks[i],
							      memory_order_release, memory_order_relaxed));
}

void remote_flush(struct thread *thread)
{
	uint32_t count = thread->gathered_count;
	thread->gathered_count = 0;
	if (count)
		remote_push(thread->gathered_for, thread->gathered, count);
}

static void gather(struct thread *thread, struct thread *owner, struct block *block)
{
	if (thread->gathered_for != owner) {
		remote_flush(thread);
		thread->gathered_for = owner;
	}
	thread->gathered[thread->gathered_count++] = block;
	if (thread->gathered_count == THREAD_GATHERED)
		remote_flush(thread);
}

void remote_give(struct thread *thread, struct block *block, bool nested)
{
	enum trace_tier tier = (enum trace_tier)(block_tag(block) & 3);
	if (tier == TRACE_TIER_HEAP) {
		/* Inside an interrupted operation jemalloc may be half way through its own. */
		if (nested)
			heap_free_later(block);
		else
			heap_free(block);
		return;
	}
	if ((uint32_t)tier == BLOCK_DIRECT) {
		direct_free(block);
		return;
	}
	struct thread *owner = owner_of(block, tier);
	if (owner == thread && !nested)
		give_local(thread, block, tier);
	else if (!nested && thread == thread_self)
		gather(thread, owner, block);
	else
		remote_push(owner, &block, 1);
}
