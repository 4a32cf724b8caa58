/* Birth of a block: site, route, tier, accounts, in this order. The general form below serves every case, what hot.h leaves
   over. */
#define _GNU_SOURCE
#include "core/alloc.h"

#include "core/counter.h"
#include "core/events.h"
#include "core/hot.h"
#include "core/next.h"
#include "core/operation.h"
#include "core/role.h"
#include "core/scope.h"
#include "core/site.h"
#include "core/violation.h"

#define CLOCK_BIRTHS 64u /* of a thread that the fast paths have not served, for one look at the clock */

uint64_t block_secret, block_birth_secret, block_span_base;

/* The frame tier is at its limit: the block goes to the next tier that may hold it. */
enum trace_tier operation_frame_exhausted(struct thread *thread, uint32_t site, size_t size)
{
	violation_threshold(thread, 3, site, (uint64_t)thread->spans_owned << REGION_CHUNK_BITS, runtime.frame_limit);
	return size <= runtime.pool_block_max ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
}

void *operation_heap_in_need(struct thread *thread, size_t size, size_t align, uint64_t birth, uint32_t tag,
			     bool zeroed)
{
	if (!region_is_limited()) /* addresses are not what is wanting */
		return NULL;
	while (remote_drain(thread))
		;
	pool_empty_caches(thread);
	frame_give_empty(thread);
	return heap_alloc(size, align, birth, tag, zeroed);
}

/* What goes by the time: how long a process has lived that is killed before any frame, and what is kept for later. */
static cold_path void look_at_clock(void)
{
	uint64_t now = base_now_ns();
	trace_header->last_ns = now;
	heap_later(now);
	region_span_later(now);
}

static __attribute__((noinline)) void *birth(struct thread *thread, struct trace_counter *counter, size_t size,
					     size_t align, bool zeroed)
{
	if (unlikely(atomic_load_explicit(&thread->role_wanted, memory_order_relaxed)))
		role_take_wanted(thread);
	remote_flush(thread);
	remote_drain(thread);
	if (unlikely(++thread->general_births % CLOCK_BIRTHS == 0))
		look_at_clock();
	if (unlikely(thread->spans_sparse))
		scope_begin_outside(thread, counter, size);
	enum trace_tier tier = operation_pick_tier(thread, counter, size, align);
	uint32_t tag = operation_scope_tag(thread, counter, size, tier);
	void *pointer;
	if (likely(runtime.mode != TRACE_MODE_OBSERVE) || thread->interrupted)
		pointer = operation_take_room(thread, counter, &tier, size, align, zeroed, tag);
	else
		pointer = heap_alloc(size, align, thread->birth | counter_place(counter), tag | BLOCK_ACCOUNT(tier),
				     zeroed);
	if (unlikely(!pointer))
		return NULL;
	account_birth(thread, counter, tier, tier + thread->birth_shift, size);
	events_birth(thread, pointer);
	if (unlikely(tier == TRACE_TIER_HEAP && thread->in_frame))
		account_heap_in_frame(thread, counter);
	return pointer;
}

/* What the API asks for is served by the tier it names, or the next that may hold it. What is not frame memory by the
   program's own word is never judged as such: ASKED and HANDED together. */
void *alloc_asked(struct thread *thread, enum trace_tier wanted, size_t size, const uintptr_t *fp)
{
	if (unlikely(size > BLOCK_SIZE_MAX))
		return NULL;
	struct trace_counter *counter = site_of_call(thread, size, fp);
	enum trace_tier tier = wanted;
	if (wanted == TRACE_TIER_FRAME && (!thread->in_frame || thread->in_task || size > runtime.frame_block_max))
		tier = thread->in_task ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
	if (tier == TRACE_TIER_POOL && size > runtime.pool_block_max)
		tier = TRACE_TIER_HEAP;
	uint32_t tag = operation_scope_tag(thread, counter, 0, tier) | BLOCK_ASKED;
	if (wanted == TRACE_TIER_FRAME)
		rule_asked_for_frame(thread, counter->site, size, tier);
	else
		tag |= BLOCK_HANDED;
	void *pointer =
		runtime.mode == TRACE_MODE_OBSERVE
			? heap_alloc(size, 0, thread->birth | counter_place(counter), tag | BLOCK_ACCOUNT(tier), false)
			: operation_take_room(thread, counter, &tier, size, 0, false, tag);
	if (pointer) {
		account_birth(thread, counter, tier, tier + thread->birth_shift, size);
		events_birth(thread, pointer);
	}
	return pointer;
}

/* Finds or makes a place for an operation when the gate is not plainly open. */
struct place operation_place(void)
{
	struct place place = {NULL, false, false};
	struct thread *thread = thread_self;
	uint32_t gate = thread->gate;
	if (gate & THREAD_INTERNAL)
		return place;
	if (unlikely(runtime_is_new_child()) && runtime_current() == RUNTIME_UNRECORDED)
		return place; /* first: what this thread did in the parent, in the middle of an operation perhaps, is over */
	place.nested = gate & THREAD_BUSY || base_holds_locks();
	if (place.nested) {
		base_hurry_begin();
	} else if (gate & THREAD_READY) {
		place.thread = thread;
		return place;
	} else if (!(gate & THREAD_ENDED)) {
		runtime_start();
		if (operation_phase() != RUNTIME_RECORDING)
			return place;
		place.thread = thread_attach(0, TRACE_ROLE_NONE);
		if (place.thread)
			return place;
	}
	place.thread = thread_late_enter();
	place.late = place.thread != NULL;
	return place;
}

void operation_leave(struct place place)
{
	if (place.late)
		thread_late_leave();
	if (place.nested)
		base_hurry_end();
}

/* From the next allocator. A small alignment is asked of malloc, unless that may have come to us for it; and of malloc all the same
   if memalign has. */
static void *new_aside(size_t size, size_t align, bool zeroed)
{
	static __thread bool in_memalign;
	bool was_in_memalign = in_memalign,
	     aligned = align > BLOCK_HEADER_BYTES || (align > 1 && next.memalign_is_another && !was_in_memalign);
	if (!aligned)
		return zeroed ? next.calloc(1, size) : next.malloc(size);
	in_memalign = true;
	void *pointer = next.memalign(align, size);
	in_memalign = was_in_memalign;
	return pointer && zeroed ? memset(pointer, 0, size) : pointer;
}

static cold_path void *new_slow(size_t size, size_t align, bool zeroed, const uintptr_t *fp)
{
	if (unlikely(operation_phase() == RUNTIME_COLD))
		runtime_start();
	if (operation_phase() == RUNTIME_ASIDE)
		return new_aside(size, align, zeroed);
	struct place place = operation_place();
	if (!place.thread) {
		if (trace_header)
			trace_add(&trace_header->untracked_allocs, 1);
		uint32_t tag = BLOCK_UNTRACKED | BLOCK_ACCOUNT(TRACE_TIER_HEAP);
		uint64_t birth = block_birth_of(SEGMENT_UNTRACKED);
		void *pointer = place.nested ? direct_alloc(size, align, birth, tag)
					     : heap_alloc(size, align, birth, tag, zeroed);
		operation_leave(place);
		return pointer;
	}
	thread_busy(place.thread);
	place.thread->interrupted = place.nested;
	void *pointer = birth(place.thread, site_of_call(place.thread, size, fp), size, align, zeroed);
	place.thread->interrupted = false;
	thread_idle(place.thread);
	operation_leave(place);
	return pointer;
}

void *alloc_new(size_t size, size_t align, bool zeroed, const uintptr_t *fp)
{
	if (unlikely(size > BLOCK_SIZE_MAX))
		return NULL;
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY))
		return new_slow(size, align, zeroed, fp);
	thread_shut(thread);
	void *pointer = birth(thread, site_of_call(thread, size, fp), size, align, zeroed);
	thread_open(thread);
	return pointer;
}

void *alloc_malloc(size_t size, const uintptr_t *fp)
{
	return alloc_or_enomem(alloc_new(size, 0, false, fp));
}
