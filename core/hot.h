/*
 * The fast paths of malloc and free, compiled into the hooks themselves (shim/hot.c): what an engine does thousands of
 * times a frame. They serve the plain cases, whole, or do nothing and leave the call to the general path (alloc.h).
 *
 * They enter no lock, call nothing and write no line that another thread writes.
 */
#ifndef FA_HOT_H
#define FA_HOT_H

#include "core/account.h"
#include "core/alloc.h"
#include "core/block.h"
#include "core/region.h"
#include "core/site.h"
#include "core/thread.h"
#include "core/tier/frame.h"
#include "core/tier/pool.h"

/* The last block of a span or slab has died; open the gate. */
cold_path void hot_span_emptied(struct thread *thread, struct frame_span *span);
cold_path void hot_slab_emptied(struct thread *thread, struct pool_slab *slab);

/* A block of 1 byte or more from the open frame's span. NULL: not here. */
static always_inline void *hot_birth_in_span(struct thread *thread, struct trace_counter *counter, uint32_t site, size_t size)
{
	size_t usable = ((size - 1) | 15) + 1;
	struct block *room = (struct block *)thread->bump;
	uint64_t frame_count = counter->frame_count + 1;
	if (unlikely(usable + BLOCK_HEADER_BYTES > (size_t)(thread->limit - thread->bump)) ||
	    unlikely(frame_count - thread->frame_base > runtime.hot_loop))
		return NULL;
	thread->bump += usable + BLOCK_HEADER_BYTES;
	thread->span->born++;
	counter->frame_count = frame_count;
	account_birth_sums(thread, counter, TRACE_TIER_FRAME, TRACE_BIRTH_FRAME_IN, size, usable);
	return block_start(room, thread->birth | site, BLOCK_IN_SCOPE, size);
}

/* The same from a slab: what lies there is what scope_settle says. */
static always_inline void *hot_birth_in_slab(struct thread *thread, struct trace_counter *counter, uint32_t site, size_t size)
{
	size_t usable = ((size - 1) | 15) + 1;
	struct pool_slab *slab = thread->small_slabs[pool_class(usable)];
	enum trace_tier tier = (enum trace_tier)thread->small_tier;
	if (unlikely(!slab || !slab->free) ||
	    unlikely(trace_thread_live(thread->record, tier) + (int64_t)usable > thread->peak_at[tier]))
		return NULL;
	if (thread->frame_base) {
		uint64_t frame_count = counter->frame_count + 1;
		if (unlikely(frame_count - thread->frame_base > runtime.hot_loop))
			return NULL;
		counter->frame_count = frame_count;
	}
	struct block *room = slab->free;
	slab->free = (struct block *)room->birth;
	slab->born++;
	account_birth_sums(thread, counter, tier, thread->small_birth, size, usable);
	return block_start(room, thread->birth | site, thread->small_tag, size);
}

/* malloc inside a frame with stacks=none. NULL: it is left to others, nothing is done. Cost: some fifty instructions, all
   loads from lines of this thread. */
static always_inline void *hot_malloc(size_t size)
{
	struct thread *thread = thread_self;
	size_t below = size - 1; /* of 0 bytes: more than any limit */
	if (unlikely(below >= thread->bump_class_max) || unlikely(thread->gate != THREAD_READY))
		return NULL;
	thread_shut(thread);
	const struct thread_class *class = &thread->classes[below / 16];
	struct trace_counter *counter = class->counter;
	void *pointer = NULL;
	if (likely(counter != NULL) && likely(!counter->rules))
		pointer = hot_birth_in_span(thread, counter, (uint32_t)class->site, size);
	thread_open(thread);
	return pointer;
}

/* The same for what lies in slabs: outside frames all that is small. */
static always_inline void *hot_malloc_small(size_t size)
{
	struct thread *thread = thread_self;
	size_t below = size - 1;
	if (!thread->classes || unlikely(below >= thread->small_max) || unlikely(below >= SITE_STEPPED_MAX) ||
	    unlikely(thread->gate != THREAD_READY))
		return NULL;
	thread_shut(thread);
	const struct thread_class *class = &thread->classes[below / 16];
	struct trace_counter *counter = class->counter;
	void *pointer = NULL;
	if (likely(counter != NULL) && likely((counter->rules & ~TRACE_IN_TASKS) == thread->small_rules))
		pointer = hot_birth_in_slab(thread, counter, (uint32_t)class->site, size);
	thread_open(thread);
	return pointer;
}

/* What a death in the segment of its birth is found out by; it was on this thread, so that its span or slab is ours. */
struct hot_death {
	struct thread *thread;
	struct block *block;
	struct trace_counter *counter; /* NULL: it is none, or none that may be dealt with here; nothing is done */
	uint64_t contents;
};

/* `block` begins with a header, if not with one of ours. */
static always_inline struct hot_death hot_death_in(struct thread *thread, struct block *block)
{
	struct hot_death death = {.thread = thread, .block = block, .contents = block_contents(block)};
	uint64_t site = block->birth ^ thread->clean_birth;
	if (unlikely(site > BLOCK_SITE_MASK))
		return death;
	struct trace_counter *group = thread->groups[site / TRACE_GROUP_SITES];
	if (likely(group != NULL))
		death.counter = group + site % TRACE_GROUP_SITES;
	return death;
}

static always_inline struct hot_death hot_death_of(void *pointer)
{
	struct hot_death none = {.thread = thread_self, .block = block_of(pointer)};
	if (unlikely(region_owner_of(none.block) == REGION_NONE) || unlikely((uintptr_t)pointer & 15) ||
	    unlikely(none.thread->gate != THREAD_READY))
		return none;
	return hot_death_in(none.thread, none.block);
}

/* realloc of the block at the end of the open frame's span, born in this segment: it grows or shrinks where it lies, however
   large, as far as the span reaches. A death with its counter, and a birth at `site`. False: not here, nothing is done. */
static always_inline bool hot_resize_at_end(struct hot_death death, struct trace_counter *counter, uint32_t site, size_t size)
{
	struct thread *thread = death.thread;
	uint8_t *start = (uint8_t *)(death.block + 1);
	size_t old_size = death.contents - ((uint64_t)BLOCK_IN_SCOPE << BLOCK_TAG_SHIFT), usable = ((size - 1) | 15) + 1;
	uint64_t frame_count = counter->frame_count + 1;
	if (start + block_usable(old_size) != thread->bump || unlikely(old_size > BLOCK_SIZE_MASK) || unlikely(counter->rules) ||
	    unlikely(usable > (size_t)(thread->limit - start)) ||
	    unlikely(frame_count - thread->frame_base > runtime.hot_loop))
		return false;
	account_death(thread, death.counter, TRACE_TIER_FRAME, old_size);
	death.counter->died_in_segment++;
	thread->bump = start + usable;
	counter->frame_count = frame_count;
	account_birth_sums(thread, counter, TRACE_TIER_FRAME, TRACE_BIRTH_FRAME_IN, size, usable);
	block_start(death.block, thread->birth | site, BLOCK_IN_SCOPE, size);
	return true;
}

/* The same with stacks=none, of 1 byte or more. */
static always_inline bool hot_realloc(void *pointer, size_t size)
{
	struct hot_death death = hot_death_of(pointer);
	if (unlikely(!death.counter) || unlikely(!death.thread->bump_class_max) || unlikely(size > REGION_CHUNK_BYTES))
		return false;
	const struct thread_class *class = &death.thread->classes[site_place(size)];
	if (unlikely(!class->counter))
		return false;
	thread_shut(death.thread);
	bool done = hot_resize_at_end(death, class->counter, (uint32_t)class->site, size);
	thread_open(death.thread);
	return done;
}

/* free of what lies in a span. */
static always_inline bool hot_free(struct hot_death death)
{
	struct thread *thread = death.thread;
	size_t size = death.contents - ((uint64_t)BLOCK_IN_SCOPE << BLOCK_TAG_SHIFT);
	if (unlikely(!death.counter) || unlikely(size > BLOCK_SIZE_MASK))
		return false;
	thread_shut(thread);
	block_kill(death.block);
	account_death(thread, death.counter, TRACE_TIER_FRAME, size);
	death.counter->died_in_segment++;
	struct frame_span *span = frame_span_of(death.block);
	if (unlikely(frame_give_last(thread, span, death.block, size)))
		hot_span_emptied(thread, span);
	else
		thread_open(thread);
	return true;
}

/* free of what lies in a slab. */
static always_inline bool hot_free_small(struct hot_death death)
{
	struct thread *thread = death.thread;
	uint64_t tag = death.contents >> BLOCK_TAG_SHIFT;
	if (unlikely(!death.counter) || (tag & ~(uint64_t)(BLOCK_IN_SCOPE | BLOCK_ACCOUNT(3))) != BLOCK_TIER(TRACE_TIER_POOL))
		return false;
	thread_shut(thread);
	block_kill(death.block);
	account_death(thread, death.counter, block_account(tag), death.contents & BLOCK_SIZE_MASK);
	(&death.counter->died_in_segment)[!(tag & BLOCK_IN_SCOPE)]++;
	if (unlikely(pool_give_last(death.block)))
		hot_slab_emptied(thread, pool_slab_of(death.block));
	else
		thread_open(thread);
	return true;
}

#endif
