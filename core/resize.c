/* realloc: a death and a birth. Where the room can be kept, it is kept. */
#define _GNU_SOURCE
#include "core/alloc.h"

#include "core/counter.h"
#include "core/escape.h"
#include "core/hot.h"
#include "core/next.h"
#include "core/site.h"

#define TAKEN_OVER_MIN (256ul << 10) /* bytes whose pages are rather moved than copied */

/* True when `size` bytes fit where the block lies and its tier would serve them there again. */
static bool fits_in_place(struct thread *thread, struct block *block, size_t size)
{
	size_t old = block_usable(block_size(block)), wanted = block_usable(size);
	switch (block_tag(block) & 3) {
	case TRACE_TIER_FRAME:
		/* A span is walked by its headers' sizes: only the top block may change its own. */
		return frame_span_of(block)->owner == thread &&
		       (old == wanted || frame_resize_top(thread, block, size));
	case TRACE_TIER_POOL:
		return pool_slab_of(block)->owner == thread && wanted <= pool_capacity(block) &&
		       wanted >= pool_capacity(block) / 2;
	default:
		return wanted == old;
	}
}

/* The header of a block that stays where it is. One that has left its slab's size class is plain no longer (pool.h). */
static void *start_in_place(struct block *block, uint64_t word, uint32_t tag, size_t size)
{
	void *pointer = block_start(block, word, tag, size);
	if ((tag & 3) == TRACE_TIER_POOL && pool_class(block_usable(size)) != pool_slab_of(block)->class_index)
		block_unplain(block);
	return pointer;
}

/* Of a block that has pages of its own. NULL: that cannot be had, nothing is done. */
static void *resize_pages(struct thread *thread, struct block *block, size_t size, uint64_t word, uint32_t tag,
			  const uintptr_t *fp)
{
	struct block dead = *block;
	events_death(thread, block + 1); /* before its address can be another's */
	void *pointer = direct_resize(block, size, word, tag);
	if (pointer)
		operation_account_death(thread, &dead, fp);
	else
		events_birth(thread, block + 1);
	return pointer;
}

/* A realloc is a death and a birth. Where the room can be kept, it is kept. */
static void *resize(struct thread *thread, struct block *block, size_t size, const uintptr_t *fp)
{
	uint32_t tag = block_tag(block);
	size_t old_size = block_usable(block_size(block)); /* a program may use all that malloc_usable_size told it */
	struct trace_counter *counter = site_of_call(thread, size, fp);
	struct hot_death death = hot_death_in(thread, block);
	if (death.counter && size - 1 < REGION_CHUNK_BYTES) {
		void *quick = hot_resize(death, counter, size);
		if (quick)
			return quick;
	}
	enum trace_tier was = (enum trace_tier)(tag & 3), accounted = block_account(tag);
	enum trace_tier wanted = operation_pick_tier(thread, counter, size, 0);
	if (block_segment(block) != thread_segment(thread))
		wanted = route_resize(wanted, accounted, size, runtime.pool_block_max);
	enum trace_tier tier = wanted;
	uint64_t word = thread->birth | counter_place(counter);
	uint32_t scope_tag = operation_scope_tag(thread, counter, size, tier);
	bool observe = runtime.mode == TRACE_MODE_OBSERVE;
	void *pointer;

	/* A block of a frame that has ended would pin its span for another frame's sake: it moves where it belongs. */
	bool moves = wanted != accounted && unlikely(counter->rules) &&
		     rule_tier(counter->rules, size); /* so a rule wants it */
	bool stays = !(tag & BLOCK_ALIGNED) && (observe || !moves) && (uint32_t)was != BLOCK_DIRECT &&
		     (observe || was != TRACE_TIER_FRAME || block_segment(block) == thread_segment(thread));
	/* What has grown so large may grow on: it gets pages of its own, which need not be copied then. */
	bool grows = (observe || wanted == TRACE_TIER_HEAP) && size >= DIRECT_GROWN_MIN && !(tag & BLOCK_ALIGNED) &&
		     (size > old_size || (uint32_t)was == BLOCK_DIRECT);
	if (stays && fits_in_place(thread, block, size)) {
		tier = observe ? wanted : accounted;
		events_death(thread, block + 1);
		operation_account_death(thread, block, fp);
		pointer = start_in_place(block, word, scope_tag | BLOCK_TIER(was) | BLOCK_ACCOUNT(tier), size);
	} else if (stays && was == TRACE_TIER_HEAP && !grows && (observe || wanted == TRACE_TIER_HEAP)) {
		struct block dead = *block;
		events_death(thread, block + 1); /* before its address can be another's */
		pointer = heap_realloc(block, size, word, scope_tag | BLOCK_ACCOUNT(wanted));
		if (!pointer) {
			events_birth(thread, block + 1);
			return NULL;
		}
		operation_account_death(thread, &dead, fp);
	} else if (grows && (uint32_t)was == BLOCK_DIRECT &&
		   (pointer = resize_pages(thread, block, size, word, scope_tag | BLOCK_ACCOUNT(tier), fp))) {
		/* its pages have been kept */
	} else {
		bool takes_over = grows && was == TRACE_TIER_HEAP && old_size >= TAKEN_OVER_MIN;
		pointer = takes_over ? direct_take_over(block, size, word, scope_tag | BLOCK_ACCOUNT(tier)) : NULL;
		bool copies = !pointer;
		if (!pointer && grows)
			pointer = direct_alloc(size, 0, word, scope_tag | BLOCK_ACCOUNT(tier));
		if (!pointer)
			pointer = observe ? heap_alloc(size, 0, word, scope_tag | BLOCK_ACCOUNT(tier), false)
					  : operation_take_room(thread, counter, &tier, size, 0, false, scope_tag);
		if (!pointer)
			return NULL;
		if (copies)
			memcpy(pointer, block + 1, old_size < size ? old_size : size);
		if (!escape_die(thread, block, fp))
			operation_die(thread, block, fp);
		operation_give_room(thread, block, false);
	}
	account_birth(thread, counter, tier, tier + thread->birth_shift, size);
	events_birth(thread, pointer);
	if (tier != accounted) {
		counter->tier_moves++;
		counter->last_move_frame = thread->frame;
		if (!counter->first_move_frame)
			counter->first_move_frame = thread->frame;
	}
	if (unlikely(tier == TRACE_TIER_HEAP && thread->in_frame))
		account_heap_in_frame(thread, counter);
	return pointer;
}

/* Of a block that nobody accounts for, or nobody any more: in the child of a fork, as a rule. NULL: it cannot be had, and the block is
   as it was. */
static void *resize_unaccounted(struct block *block, size_t size)
{
	size_t old_size = block_usable(block_size(block));
	uint32_t tier = block_tag(block) & 3, tag = BLOCK_UNTRACKED | BLOCK_ACCOUNT(TRACE_TIER_HEAP);
	uint64_t word = block_birth_of(SEGMENT_UNTRACKED);
	if (block_usable(size) == old_size)
		return block + 1;
	if (block_tag(block) & BLOCK_ALIGNED)
		return NULL;
	if (tier == BLOCK_DIRECT)
		return size >= DIRECT_GROWN_MIN ? direct_resize(block, size, word, tag) : NULL;
	if (tier != TRACE_TIER_HEAP)
		return NULL;
	if (size >= DIRECT_GROWN_MIN && size > old_size && old_size >= TAKEN_OVER_MIN) {
		void *pointer = direct_take_over(block, size, word, tag);
		if (pointer) {
			alloc_free(block + 1, NULL);
			return pointer;
		}
	}
	return heap_realloc(block, size, word, tag);
}

/* Without a place of the calling thread: allocate, copy, free, each by its own slow way. */
static cold_path void *resize_slow(struct block *block, size_t size, const uintptr_t *fp)
{
	size_t old_size = block_usable(block_size(block)); /* a program may use all that malloc_usable_size told it */
	void *pointer = NULL;
	if (!(thread_self->gate & THREAD_INTERNAL) &&
	    (block_is_untracked(block) || !(block_tag(block) & BLOCK_SPECIAL))) {
		struct place place = operation_place();
		if (!place.thread && !place.nested)
			pointer = resize_unaccounted(block, size);
		operation_leave(place);
	}
	if (pointer)
		return pointer;
	pointer = alloc_new(size, 0, false, fp);
	if (!pointer)
		return NULL;
	memcpy(pointer, block + 1, old_size < size ? old_size : size);
	alloc_free(block + 1, fp);
	return pointer;
}

void *alloc_resize(void *pointer, size_t size, const uintptr_t *fp)
{
	bool plain = hot_death_of(pointer).counter != NULL;
	if (unlikely(!plain) && unlikely(!operation_is_ours(pointer, fp))) {
		if (region_holds(pointer))
			return NULL; /* told as FA901 or FA902; errno is left alone */
		runtime_current();
		if (trace_header)
			trace_add(&trace_header->foreign_frees, 1);
		return next.realloc(pointer, size);
	}
	if (unlikely(size > BLOCK_SIZE_MAX))
		return NULL;
	struct block *block = block_of(pointer);
	struct thread *thread = thread_self;
	if (unlikely(!plain) && unlikely(thread->gate != THREAD_READY || block_tag(block) & BLOCK_SPECIAL))
		return resize_slow(block, size, fp);
	thread_shut(thread);
	void *moved = resize(thread, block, size, fp);
	thread_open(thread);
	return moved;
}
