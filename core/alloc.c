/* Allocation and death of a block: site, route, tier, accounts, checks, in this order. Operations run with the thread's
   gate closed (THREAD_BUSY); whoever finds it closed, ended or unattached goes the slow way round. */
#define _GNU_SOURCE
#include "core/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/account.h"
#include "core/block.h"
#include "core/death.h"
#include "core/next.h"
#include "core/region.h"
#include "core/route.h"
#include "core/runtime.h"
#include "core/segment.h"
#include "core/site.h"
#include "core/thread.h"
#include "core/tier/direct.h"
#include "core/tier/frame.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"
#include "core/tier/remote.h"
#include "core/violation.h"

uint64_t block_secret;

/* Where an operation of the calling thread takes place. */
struct place {
	struct thread *thread; /* NULL: unrecorded, from the heap tier */
	bool late;             /* the shared slot, locked */
	bool nested;           /* inside an interrupted operation of this thread */
};

/* ---- birth ----------------------------------------------------------------------------------------------------- */

static always_inline enum trace_tier pick_tier(const struct thread *thread, const struct trace_counter *counter,
                                               size_t size, size_t align)
{
	struct route_request request = {.size = size,
	                                .align = align,
	                                .role = (enum trace_role)thread->role,
	                                .in_frame = thread->in_frame,
	                                .in_task = thread->in_task,
	                                .demoted = counter->demoted,
	                                .frame_max = runtime.frame_block_max,
	                                .pool_max = runtime.pool_block_max};
	return route_pick(&request);
}

/* The frame tier is at its limit: the block goes to the next tier that may hold it. */
static cold_path enum trace_tier frame_exhausted(struct thread *thread, uint32_t site, size_t size)
{
	violation_threshold(thread, 3, site, (uint64_t)thread->spans_owned << REGION_CHUNK_BITS, runtime.frame_limit);
	return size <= runtime.pool_block_max ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
}

/* Room in `*tier`, or in a later one: the tier it came from is left in *tier. */
static always_inline void *take_room(struct thread *thread, uint32_t site, enum trace_tier *tier, size_t size,
                                     size_t align, bool zeroed, uint64_t birth, uint32_t tag)
{
	void *room = NULL;
	if (*tier == TRACE_TIER_FRAME) {
		room = frame_take(thread, size);
		if (unlikely(!room))
			*tier = frame_exhausted(thread, site, size);
	}
	if (*tier == TRACE_TIER_POOL) {
		room = pool_take(thread, size);
		if (unlikely(!room))
			*tier = TRACE_TIER_HEAP;
	}
	if (*tier == TRACE_TIER_HEAP) {
		tag |= BLOCK_ACCOUNT(TRACE_TIER_HEAP);
		return likely(!thread->interrupted) ? heap_alloc(size, align, birth, tag, zeroed)
		                                    : direct_alloc(size, align, birth, tag);
	}
	void *pointer = block_start(room, birth, tag | BLOCK_TIER(*tier) | BLOCK_ACCOUNT(*tier), size);
	if (zeroed)
		memset(pointer, 0, size);
	return pointer;
}

static always_inline void *birth(struct thread *thread, size_t size, size_t align, bool zeroed, const uintptr_t *fp)
{
	uint32_t site = site_of_call(thread, size, fp);
	struct trace_counter *counter = thread_counter(thread, site);
	enum trace_tier tier = pick_tier(thread, counter, size, align);
	uint64_t word = thread->segment << BLOCK_SITE_BITS | site;
	uint32_t tag = thread->in_frame ? BLOCK_IN_SCOPE : 0;
	void *pointer;
	if (likely(runtime.mode != TRACE_MODE_OBSERVE) || thread->interrupted)
		pointer = take_room(thread, site, &tier, size, align, zeroed, word, tag);
	else
		pointer = heap_alloc(size, align, word, tag | BLOCK_ACCOUNT(tier), zeroed);
	if (unlikely(!pointer))
		return NULL;
	account_birth(thread, counter, site, tier, tier + thread->birth_shift, size);
	if (unlikely(tier == TRACE_TIER_HEAP && thread->in_frame))
		account_heap_in_frame(thread, counter, site);
	return pointer;
}

static always_inline enum runtime_phase phase_now(void)
{
	return (enum runtime_phase)atomic_load_explicit(&runtime_phase, memory_order_acquire);
}

/* Finds or makes a place for an operation when the gate is not plainly open. */
static cold_path struct place slow_place(void)
{
	struct place place = {NULL, false, false};
	struct thread *thread = thread_self;
	uint32_t gate = thread->gate;
	if (gate & THREAD_INTERNAL)
		return place;
	if (gate & THREAD_BUSY) {
		place.nested = true;
		thread->gate |= THREAD_PENDING;
	} else if (gate & THREAD_READY) {
		thread->gate = THREAD_READY; /* not pending any more */
		thread_busy(thread);
		remote_drain(thread);
		thread_idle(thread);
		place.thread = thread;
		return place;
	} else if (!(gate & THREAD_ENDED)) {
		runtime_start();
		if (phase_now() == RUNTIME_RECORDING && runtime_forked())
			runtime_child();
		if (phase_now() != RUNTIME_RECORDING)
			return place;
		place.thread = thread_attach(0);
		if (place.thread)
			return place;
	}
	place.thread = thread_late_enter();
	place.late = place.thread != NULL;
	return place;
}

static cold_path void *new_slow(size_t size, size_t align, bool zeroed, const uintptr_t *fp)
{
	if (unlikely(phase_now() == RUNTIME_COLD))
		runtime_start();
	if (phase_now() == RUNTIME_ASIDE) {
		if (zeroed)
			return next.calloc(1, size);
		return align > 16 ? next.memalign(align, size) : next.malloc(size);
	}
	struct place place = slow_place();
	if (!place.thread) {
		if (trace_header)
			trace_add(&trace_header->untracked_allocs, 1);
		return heap_alloc(size, align, 0, BLOCK_UNTRACKED | BLOCK_ACCOUNT(TRACE_TIER_HEAP), zeroed);
	}
	thread_busy(place.thread);
	place.thread->interrupted = place.nested;
	void *pointer = birth(place.thread, size, align, zeroed, fp);
	place.thread->interrupted = false;
	thread_idle(place.thread);
	if (place.late)
		thread_late_leave();
	return pointer;
}

/* birth() for the case that engines live in: a small block inside a frame, in route mode. */
static always_inline void *birth_in_frame(struct thread *thread, struct trace_counter *counter, uint32_t site, size_t size)
{
	struct block *room = (struct block *)frame_take(thread, size);
	if (unlikely(!room))
		return NULL;
	void *pointer = block_start(room, thread->segment << BLOCK_SITE_BITS | site, BLOCK_IN_SCOPE, size);
	account_birth(thread, counter, site, TRACE_TIER_FRAME, TRACE_BIRTH_FRAME_IN, size);
	return pointer;
}

static __attribute__((noinline)) void *birth_anywhere(struct thread *thread, size_t size, size_t align, bool zeroed,
                                                      const uintptr_t *fp)
{
	return birth(thread, size, align, zeroed, fp);
}

void *alloc_malloc(size_t size, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY || size > BLOCK_SIZE_MAX))
		return alloc_new(size, 0, false, fp);
	thread_busy(thread);
	void *pointer = NULL;
	if (likely(size < thread->frame_below)) {
		uint32_t site = site_of_call(thread, size, fp);
		struct trace_counter *counter = thread_counter(thread, site);
		if (likely(!counter->demoted))
			pointer = birth_in_frame(thread, counter, site, size);
	}
	if (unlikely(!pointer))
		pointer = birth_anywhere(thread, size, 0, false, fp);
	thread_idle(thread);
	return pointer;
}

void *alloc_new(size_t size, size_t align, bool zeroed, const uintptr_t *fp)
{
	if (unlikely(size > BLOCK_SIZE_MAX))
		return NULL;
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY))
		return new_slow(size, align, zeroed, fp);
	thread_busy(thread);
	void *pointer = birth_anywhere(thread, size, align, zeroed, fp);
	thread_idle(thread);
	return pointer;
}

/* ---- death ----------------------------------------------------------------------------------------------------- */

/* Accounts and checks the death that `block`'s header tells of. A block that the parent of this process allocated is in
   no count of this recording. */
static always_inline void account_and_check(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	uint32_t tag = block_tag(block);
	bool clean = block_segment(block) == thread->segment;
	if (unlikely(!clean && segment_is_inherited(block_segment(block))))
		return;
	struct trace_counter *counter = thread_counter(thread, block_site(block));
	account_death(thread, counter, (enum trace_tier)(tag >> 2 & 3), block_size(block));
	if (likely(clean))
		(&counter->died_in_segment)[!(tag & BLOCK_IN_SCOPE)]++;
	else
		death_check(thread, counter, block, fp);
}

/* The block is marked dead; its room is still untouched. */
static always_inline void die(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	block_kill(block);
	account_and_check(thread, block, fp);
}

static always_inline void give_room(struct thread *thread, struct block *block, bool nested)
{
	uint32_t tier = block_tag(block) & 3;
	if (likely(!nested)) {
		if (tier == TRACE_TIER_FRAME && likely(frame_span_of(block)->owner == thread)) {
			frame_give(thread, block);
			return;
		}
		if (tier == TRACE_TIER_HEAP) {
			heap_free(block);
			return;
		}
	}
	remote_give(thread, block, nested);
}

/* A pointer outside the region: somebody else's. */
static cold_path void foreign(void *pointer)
{
	runtime_start();
	if (trace_header)
		trace_add(&trace_header->foreign_frees, 1);
	next.free(pointer);
}

/* Whether the header a block at `pointer` would have can be read. It may lie in the chunk before the block's. */
static always_inline bool has_header(const void *pointer)
{
	return region_owner_of(block_of(pointer)) != REGION_NONE && !((uintptr_t)pointer & 15);
}

/* A pointer that is no live block of ours. */
static cold_path bool bad_pointer(void *pointer, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	bool twice = has_header(pointer) && block_is_dead(block_of(pointer));
	if (thread->gate == THREAD_READY) {
		thread_busy(thread);
		struct violation v = {.code = twice ? 902 : 901,
		                      .level = TRACE_LEVEL_ERROR,
		                      .site = 0,
		                      .other = site_node_of_call(thread, fp),
		                      .count = 1,
		                      .frame = thread->frame,
		                      .occurrence = {.born_thread = UINT32_MAX,
		                                     .died_thread = thread->record_index,
		                                     .died_frame = thread->frame}};
		v.occurrence.died_node = v.other;
		if (twice) { /* the header still tells where it was born, unless a free list runs through it */
			struct block *block = block_of(pointer);
			bool linked = (block_tag(block) & 3) == TRACE_TIER_POOL;
			v.site = linked || block_site(block) >= trace_count(&trace_sites) ? 0 : block_site(block);
			v.bytes = v.occurrence.size_bytes = block_size(block);
		}
		violation_record(thread, &v);
		thread_idle(thread);
	}
	if (runtime.options.abort_on_heap_error) {
		base_say(twice ? "double free (FA902)" : "invalid free (FA901)");
		abort();
	}
	return false;
}

/* True: a live block of ours. False: dealt with, nothing left to do but (for foreign pointers) passing it on. */
static always_inline bool is_ours(void *pointer, const uintptr_t *fp)
{
	if (likely(has_header(pointer) && block_is_live(block_of(pointer))))
		return true;
	if (region_holds(pointer))
		bad_pointer(pointer, fp);
	return false;
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

static cold_path void free_slow(struct block *block, const uintptr_t *fp)
{
	bool untracked = block_tag(block) & BLOCK_UNTRACKED;
	struct thread *thread = thread_self;
	if (thread->gate == (THREAD_READY | THREAD_INTERNAL) && !untracked) {
		/* The shim's own work (dlopen, say) frees a block of the program: accounted, without a call path. */
		die(thread, block, NULL);
		give_room(thread, block, false);
		return;
	}
	struct place place = slow_place();
	if (place.nested) {
		if (untracked)
			block_kill(block);
		else if (place.thread)
			die(place.thread, block, NULL);
		remote_give(thread, block, true);
	} else if (!place.thread || untracked) {
		free_unaccounted(block);
	} else {
		thread_busy(place.thread);
		die(place.thread, block, place.late ? NULL : fp);
		give_room(place.thread, block, false);
		thread_idle(place.thread);
	}
	if (place.late)
		thread_late_leave();
}

/* Any death but that of a frame block in its own segment. */
static __attribute__((noinline)) void free_elsewhere(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	die(thread, block, fp);
	give_room(thread, block, false);
}

void alloc_free(void *pointer, const uintptr_t *fp)
{
	if (unlikely(!is_ours(pointer, fp))) {
		if (!region_holds(pointer))
			foreign(pointer);
		return;
	}
	struct block *block = block_of(pointer);
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY || block_tag(block) & BLOCK_UNTRACKED)) {
		free_slow(block, fp);
		return;
	}
	thread_busy(thread);
	if (likely((block_tag(block) & (BLOCK_IN_SCOPE | 0xf)) == BLOCK_IN_SCOPE && block_segment(block) == thread->segment)) {
		/* A frame block that dies in its segment was born on this thread: its span is ours. */
		struct trace_counter *counter = thread_counter(thread, block_site(block));
		block_kill(block);
		account_death(thread, counter, TRACE_TIER_FRAME, block_size(block));
		counter->died_in_segment++;
		frame_give(thread, block);
	} else {
		free_elsewhere(thread, block, fp);
	}
	thread_idle(thread);
}

/* ---- realloc --------------------------------------------------------------------------------------------------- */

/* True when `size` bytes fit where the block lies and its tier would serve them there again. */
static bool fits_in_place(struct thread *thread, struct block *block, size_t size)
{
	size_t old = block_usable(block_size(block)), wanted = block_usable(size);
	switch (block_tag(block) & 3) {
	case TRACE_TIER_FRAME:
		/* A span is walked by its headers' sizes: only the top block may change its own. */
		return frame_span_of(block)->owner == thread && (old == wanted || frame_resize_top(thread, block, size));
	case TRACE_TIER_POOL:
		return pool_slab_of(block)->owner == thread && wanted <= pool_capacity(block) &&
		       wanted >= pool_capacity(block) / 2;
	default:
		return wanted == old;
	}
}

/* A realloc is a death and a birth. Where the room can be kept, it is kept. */
static void *resize(struct thread *thread, struct block *block, size_t size, const uintptr_t *fp)
{
	uint32_t site = site_of_call(thread, size, fp), tag = block_tag(block);
	size_t old_size = block_usable(block_size(block)); /* a program may use all that malloc_usable_size told it */
	struct trace_counter *counter = thread_counter(thread, site);
	enum trace_tier was = (enum trace_tier)(tag & 3), accounted = (enum trace_tier)(tag >> 2 & 3);
	enum trace_tier wanted = pick_tier(thread, counter, size, 0);
	if (block_segment(block) != thread->segment)
		wanted = route_resize(wanted, accounted, size, runtime.pool_block_max);
	enum trace_tier tier = wanted;
	uint64_t word = thread->segment << BLOCK_SITE_BITS | site;
	uint32_t scope_tag = thread->in_frame ? BLOCK_IN_SCOPE : 0;
	bool observe = runtime.mode == TRACE_MODE_OBSERVE;
	void *pointer;

	/* A block of a frame that has ended would pin its span for another frame's sake: it moves where it belongs. */
	bool stays = !(tag & BLOCK_ALIGNED) && (observe || was != TRACE_TIER_FRAME || block_segment(block) == thread->segment);
	if (stays && fits_in_place(thread, block, size)) {
		tier = observe ? wanted : was;
		account_and_check(thread, block, fp);
		pointer = block_start(block, word, scope_tag | BLOCK_TIER(was) | BLOCK_ACCOUNT(tier), size);
	} else if (stays && was == TRACE_TIER_HEAP && (observe || wanted == TRACE_TIER_HEAP)) {
		struct block dead = *block;
		pointer = heap_realloc(block, size, word, scope_tag | BLOCK_ACCOUNT(wanted));
		if (!pointer)
			return NULL;
		account_and_check(thread, &dead, fp);
	} else {
		pointer = observe ? heap_alloc(size, 0, word, scope_tag | BLOCK_ACCOUNT(tier), false)
		                  : take_room(thread, site, &tier, size, 0, false, word, scope_tag);
		if (!pointer)
			return NULL;
		memcpy(pointer, block + 1, old_size < size ? old_size : size);
		die(thread, block, fp);
		give_room(thread, block, false);
	}
	account_birth(thread, counter, site, tier, tier + thread->birth_shift, size);
	if (tier != accounted) {
		counter->tier_moves++;
		counter->last_move_frame = thread->frame;
		if (!counter->first_move_frame)
			counter->first_move_frame = thread->frame;
	}
	if (unlikely(tier == TRACE_TIER_HEAP && thread->in_frame))
		account_heap_in_frame(thread, counter, site);
	return pointer;
}

/* Without a place of the calling thread: allocate, copy, free, each by its own slow way. */
static cold_path void *resize_slow(struct block *block, size_t size, const uintptr_t *fp)
{
	size_t old_size = block_usable(block_size(block)); /* a program may use all that malloc_usable_size told it */
	void *pointer = alloc_new(size, 0, false, fp);
	if (!pointer)
		return NULL;
	memcpy(pointer, block + 1, old_size < size ? old_size : size);
	alloc_free(block + 1, fp);
	return pointer;
}

void *alloc_resize(void *pointer, size_t size, const uintptr_t *fp)
{
	if (unlikely(!is_ours(pointer, fp))) {
		if (region_holds(pointer))
			return NULL;
		runtime_start();
		if (trace_header)
			trace_add(&trace_header->foreign_frees, 1);
		return next.realloc(pointer, size);
	}
	if (unlikely(size > BLOCK_SIZE_MAX))
		return NULL;
	struct block *block = block_of(pointer);
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY || block_tag(block) & BLOCK_UNTRACKED))
		return resize_slow(block, size, fp);
	thread_busy(thread);
	void *moved = resize(thread, block, size, fp);
	thread_idle(thread);
	return moved;
}

/* ---- questions ------------------------------------------------------------------------------------------------- */

size_t alloc_usable(void *pointer)
{
	if (likely(is_ours(pointer, NULL)))
		return block_usable(block_size(block_of(pointer)));
	return region_holds(pointer) ? 0 : next.malloc_usable_size(pointer);
}

void alloc_hand_over(void *pointer)
{
	if (has_header(pointer) && block_is_live(block_of(pointer)))
		block_of(pointer)->state |= (uint64_t)BLOCK_HANDED << BLOCK_TAG_SHIFT;
}
