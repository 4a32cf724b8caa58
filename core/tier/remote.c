/* Where dead blocks go home. */
#include "core/tier/remote.h"

#include "core/tier/direct.h"
#include "core/tier/frame.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"

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

uint64_t remote_drain(struct thread *thread)
{
	if (!atomic_load_explicit(&thread->remote, memory_order_relaxed))
		return 0;
	struct block *block = atomic_exchange_explicit(&thread->remote, NULL, memory_order_acquire);
	uint64_t count = 0;
	while (block) {
		struct block *next = (struct block *)block->birth;
		give_local(thread, block, (enum trace_tier)(block_tag(block) & 3));
		block = next;
		count++;
	}
	return count;
}

void remote_give(struct thread *thread, struct block *block, bool nested)
{
	enum trace_tier tier = (enum trace_tier)(block_tag(block) & 3);
	if (tier == TRACE_TIER_HEAP) {
		/* Inside an interrupted operation jemalloc may be half way through its own. */
		if (nested)
			remote_push(thread, block);
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
	else
		remote_push(owner, block);
}
