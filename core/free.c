/* Death of a block, and pointers that are no block's start. */
#define _GNU_SOURCE
#include "core/alloc.h"

#include <stdlib.h>

#include "core/attach.h"
#include "core/coroutine.h"
#include "core/counter.h"
#include "core/escape.h"
#include "core/hot.h"
#include "core/next.h"
#include "core/node.h"
#include "core/own.h"
#include "core/task.h"
#include "core/violation.h"

/* A pointer outside the region: somebody else's. */
static cold_path void foreign(void *pointer)
{
	runtime_current();
	if (trace_header)
		trace_add(&trace_header->foreign_frees, 1);
	next.free(pointer);
}

/* A pointer that is no live block of ours. */
void operation_bad_pointer(void *pointer, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	bool twice = operation_has_header(pointer) && block_is_dead(block_of(pointer));
	if (thread->gate == THREAD_READY) {
		thread_busy(thread);
		struct violation v = {.code = twice ? 902 : 901,
				      .level = TRACE_LEVEL_ERROR,
				      .site = 0,
				      .other = node_of_call(thread, fp),
				      .count = 1,
				      .frame = thread->frame,
				      .occurrence = {.born_thread = UINT32_MAX,
						     .died_thread = thread->record_index,
						     .died_frame = thread->frame}};
		v.occurrence.died_node = v.other;
		if (twice) { /* its header tells where it was born, unless a list of free blocks runs through it */
			struct block *block = block_of(pointer);
			bool told = (block_tag(block) & 3) != TRACE_TIER_POOL;
			v.site = told ? block_site_doubted(block) : 0;
			v.bytes = v.occurrence.size_bytes = block_size(block);
		}
		violation_record(thread, &v);
		thread_idle(thread);
	}
	if (runtime.options.abort_on_heap_error) {
		base_say(twice ? "double free (FA902)" : "invalid free (FA901)");
		abort();
	}
}

/* Nobody accounts for this free: the block is untracked, or this process records nothing. What belongs to a thread's
   tiers stays where it is in the child of a fork: its owner is not here. */
static void free_unaccounted(struct block *block)
{
	block_kill(block);
	if ((block_tag(block) & 3) == TRACE_TIER_HEAP)
		heap_free(block);
	else if ((block_tag(block) & 3) == BLOCK_DIRECT)
		direct_free(block);
}

cold_path void alloc_end_attached(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	struct attachment attached;
	while (attach_take((uintptr_t)(block + 1), &attached)) {
		if (!thread)
			continue;
		switch (attached.kind) {
		case ATTACH_TASK:
			task_end_named(thread, attached.object, (uint32_t)attached.mark);
			break;
		case ATTACH_COROUTINE:
			coroutine_end_named(thread, attached.object, attached.mark);
			break;
		case ATTACH_HANDED:
			task_handed_dies(thread, block);
			break;
		case ATTACH_OWNED:
			own_freed_by_hand(thread, block, attached.object, fp);
			break;
		}
	}
}

static cold_path void free_slow(struct block *block, const uintptr_t *fp)
{
	bool untracked = block_is_untracked(block);
	struct thread *thread = thread_self;
	if (thread->gate == (THREAD_READY | THREAD_INTERNAL) && !untracked) {
		/* The shim's own work (dlopen, say) frees a block of the program: accounted, without a call path. */
		operation_die(thread, block, NULL);
		operation_give_room(thread, block, false);
		return;
	}
	struct place place = operation_place();
	if (place.thread)
		thread_busy(place.thread);
	bool special = block_tag(block) & BLOCK_SPECIAL && !untracked;
	if (special && !place.nested) {
		alloc_end_attached(place.thread, block, fp);
		/* A second free is one of a dead block, not of one that its frame has released (own.h). */
		block_unmark(block, BLOCK_SPECIAL);
	}
	if (place.nested && special) {
		trace_loss(TRACE_LOSS_HANDLERS, 1); /* it lives on: what hangs on it may be what was interrupted */
	} else if (place.nested) {
		if (!untracked && place.thread) {
			operation_die(place.thread, block, NULL);
		} else {
			block_kill(block);
			if (!untracked)
				trace_loss(TRACE_LOSS_HANDLERS, 1);
		}
		remote_give(thread, block, true);
	} else if (!place.thread || untracked) {
		free_unaccounted(block);
	} else {
		operation_die(place.thread, block, place.late ? NULL : fp);
		operation_give_room(place.thread, block, false);
	}
	if (place.thread)
		thread_idle(place.thread);
	operation_leave(place);
}

void hot_span_emptied(struct thread *thread, struct frame_span *span)
{
	thread_shut(thread);
	frame_span_emptied(thread, span);
	thread_open(thread);
}

void hot_slab_emptied(struct thread *thread, struct pool_slab *slab)
{
	pool_slab_emptied(thread, slab);
	thread_open(thread);
}

/* What is no escape of the plain kind. */
static __attribute__((noinline)) void free_general(void *pointer, const uintptr_t *fp)
{
	if (unlikely(!operation_is_ours(pointer, fp))) {
		if (!region_holds(pointer))
			foreign(pointer);
		return;
	}
	struct block *block = block_of(pointer);
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY || block_tag(block) & BLOCK_SPECIAL)) {
		free_slow(block, fp);
		return;
	}
	thread_shut(thread);
	if (!escape_die(thread, block, fp))
		operation_die(thread, block, fp);
	operation_give_room(thread, block, false);
	thread_open(thread);
}

/* Not inlined, as those below: each needs fewer registers saved than all. */
static __attribute__((noinline)) void free_at_home(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	thread_shut(thread);
	bool freed = escape_free_at_home(thread, block, fp);
	thread_open(thread);
	if (unlikely(!freed))
		free_general(block + 1, fp);
}

/* The same of what another thread has. */
static __attribute__((noinline)) void free_elsewhere(struct thread *thread, struct thread *home, struct block *block,
						     const uintptr_t *fp)
{
	thread_shut(thread);
	bool freed = escape_free_elsewhere(thread, home, block, fp);
	thread_open(thread);
	if (unlikely(!freed))
		free_general(block + 1, fp);
}

void alloc_free(void *pointer, const uintptr_t *fp)
{
	struct thread *thread = thread_self, *home = NULL;
	struct block *block = block_of(pointer);
	if (likely(thread->gate == THREAD_READY) && likely(hot_has_header(pointer)))
		home = escape_home(block);
	if (likely(home == thread))
		free_at_home(thread, block, fp);
	else if (home)
		free_elsewhere(thread, home, block, fp);
	else
		free_general(pointer, fp);
}

size_t alloc_usable(void *pointer)
{
	if (likely(operation_is_ours(pointer, NULL)))
		return block_usable(block_size(block_of(pointer)));
	return region_holds(pointer) ? 0 : next.malloc_usable_size(pointer);
}

void alloc_hand_over(void *pointer)
{
	struct block *block = block_of(pointer); /* if it is one: it may be anything */
	if (operation_has_header(pointer) && base_page_readable((uintptr_t)block) && block_is_live(block))
		block_mark(block, BLOCK_HANDED);
}
