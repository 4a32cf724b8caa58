/*
 * What birth, death and resizing of a block share: where an operation takes place, how room is taken and given, how a
 * death is accounted for. Inlined into the hot paths of alloc.c, free.c and resize.c.
 *
 * An operation runs with the thread's gate closed (THREAD_BUSY). Whoever finds it closed, ended or unattached goes the
 * slow way round, by operation_place().
 */
#ifndef FA_OPERATION_H
#define FA_OPERATION_H

#include <string.h>

#include "core/account.h"
#include "core/block.h"
#include "core/counter.h"
#include "core/death.h"
#include "core/events.h"
#include "core/region/region.h"
#include "core/route.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/segment.h"
#include "core/thread.h"
#include "core/tier/direct.h"
#include "core/tier/frame.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"
#include "core/tier/remote.h"

/* Where an operation of the calling thread takes place. */
struct place {
	struct thread *thread; /* NULL: unrecorded, from the heap tier */
	bool late; /* the shared slot, locked */
	bool nested; /* inside an interrupted operation of this thread */
};

/* Finds or makes a place when the gate is not plainly open. What is nested hurries (base.h) until it leaves. */
struct place operation_place(void);
void operation_leave(struct place place);

static always_inline enum runtime_phase operation_phase(void)
{
	return (enum runtime_phase)atomic_load_explicit(&runtime_phase, memory_order_acquire);
}

static always_inline enum trace_tier operation_pick_tier(const struct thread *thread,
							 const struct trace_counter *counter, size_t size, size_t align)
{
	struct route_request request = {.size = size,
					.align = align,
					.role = (enum trace_role)thread->role,
					.in_frame = thread->in_frame,
					.in_task = thread->in_task,
					.demoted = (counter->route & TRACE_ROUTE_DEMOTED) != 0,
					.rule = unlikely(counter->rules) ? rule_tier(counter->rules, size) : 0,
					.frame_max = runtime.frame_block_max,
					.pool_max = runtime.pool_block_max};
	return route_pick(&request);
}

/* The tag of a block that is born on this thread; frame memory that a rule asked for is marked as such. */
static always_inline uint32_t operation_scope_tag(struct thread *thread, struct trace_counter *counter, size_t size,
						  enum trace_tier tier)
{
	uint32_t tag = thread->in_task ? BLOCK_IN_TASK : thread->in_frame ? BLOCK_IN_SCOPE : 0;
	if (unlikely(counter->rules) && rule_tier(counter->rules, size) == TRACE_TIER_FRAME + 1) {
		rule_asked_for_frame(thread, counter->site, size, tier);
		tag |= BLOCK_ASKED;
	}
	return tag;
}

/* The frame tier is at its limit: FA003, and the next tier that may hold the block. */
enum trace_tier operation_frame_exhausted(struct thread *thread, uint32_t site, size_t size);

/* heap_alloc has found nothing: once more, when the thread has given back what it had in reserve. NULL: that was nothing. */
cold_path void *operation_heap_in_need(struct thread *thread, size_t size, size_t align, uint64_t birth, uint32_t tag,
				       bool zeroed);

/* Room in `*tier`, or in a later one: the tier it came from is left in *tier. */
static always_inline void *operation_take_room(struct thread *thread, const struct trace_counter *counter,
					       enum trace_tier *tier, size_t size, size_t align, bool zeroed,
					       uint32_t tag)
{
	void *room = NULL;
	uint64_t birth = thread->birth | counter_place(counter);
	if (*tier == TRACE_TIER_FRAME) {
		room = frame_take(thread, size);
		if (unlikely(!room))
			*tier = operation_frame_exhausted(thread, counter->site, size);
	}
	enum trace_tier lies = *tier;
	if (*tier == TRACE_TIER_POOL) {
		room = pool_take(thread, TRACE_TIER_POOL, size);
		if (unlikely(!room))
			*tier = TRACE_TIER_HEAP;
	} else if (*tier == TRACE_TIER_HEAP && size <= POOL_HEAP_MAX && align <= BLOCK_HEADER_BYTES) {
		room = pool_take(thread, TRACE_TIER_HEAP, size);
		lies = TRACE_TIER_POOL;
	}
	if (!room) {
		tag |= BLOCK_ACCOUNT(TRACE_TIER_HEAP);
		if (unlikely(thread->interrupted))
			return direct_alloc(size, align, birth, tag);
		void *pointer = heap_alloc(size, align, birth, tag, zeroed);
		return likely(pointer != NULL) ? pointer
					       : operation_heap_in_need(thread, size, align, birth, tag, zeroed);
	}
	void *pointer = block_start(room, birth, tag | BLOCK_TIER(lies) | BLOCK_ACCOUNT(*tier), size);
	if (zeroed)
		memset(pointer, 0, size);
	return pointer;
}

/* Accounts and checks the death that `block`'s header tells of. A block that the parent of this process allocated is in
   no count of this recording. */
static always_inline void operation_account_death(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	uint32_t tag = block_tag(block);
	bool clean = block_segment(block) == thread_segment(thread);
	if (unlikely(!clean && segment_is_inherited(block_segment(block))))
		return;
	struct trace_counter *counter = counter_of(thread, block_site(block));
	account_death(counter, &thread->record->tier[block_account(tag)], block_usable(block_size(block)));
	if (unlikely((tag & BLOCK_SCOPE) == BLOCK_IN_TASK))
		counter->task_alive--;
	if (likely(clean))
		(&counter->died_in_segment)[!(tag & BLOCK_IN_SCOPE)]++;
	else
		death_check(thread, counter, block, fp);
}

/* The block is marked dead; its room is still untouched. */
static always_inline void operation_die(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	events_death(thread, block + 1);
	block_kill(block);
	operation_account_death(thread, block, fp);
}

static always_inline void operation_give_room(struct thread *thread, struct block *block, bool nested)
{
	uint32_t tier = block_tag(block) & 3;
	if (likely(!nested)) {
		if (tier == TRACE_TIER_FRAME && likely(frame_span_of(block)->owner == thread)) {
			frame_give(thread, block, block_size(block));
			return;
		}
		if (tier == TRACE_TIER_POOL && likely(pool_slab_of(block)->owner == thread)) {
			pool_give(thread, block);
			return;
		}
		if (tier == TRACE_TIER_HEAP) {
			heap_free(block);
			return;
		}
	}
	remote_give(thread, block, nested);
}

/* Whether the header a block at `pointer` would have can be read. It may lie in the chunk before the block's. */
static always_inline bool operation_has_header(const void *pointer)
{
	return region_owner_of(block_of(pointer)) != REGION_NONE && !((uintptr_t)pointer & 15);
}

/* A pointer into the region that is no live block's start: FA901 or FA902. */
void operation_bad_pointer(void *pointer, const uintptr_t *fp);

/* True: a live block of ours. False: dealt with, nothing left to do but (for foreign pointers) passing it on. */
static always_inline bool operation_is_ours(void *pointer, const uintptr_t *fp)
{
	if (likely(operation_has_header(pointer) && block_is_live(block_of(pointer))))
		return true;
	if (region_holds(pointer))
		operation_bad_pointer(pointer, fp);
	return false;
}

#endif
