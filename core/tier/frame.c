/* Spans of the frame tier. Everything here runs on the owning thread; other threads reach a span only through the
   owner's remote queue (remote.h). */
#include "core/tier/frame.h"

#include "core/account.h"
#include "core/counter.h"
#include "core/runtime.h"
#include "core/tier/heap.h"
#include "core/tier/remote.h"
#include "core/trace/writer.h"

/* Spans hold little: so many bytes and that share of the peak, of which less than one in SPARSE_ALIVE lives. */
#define SPARSE_BYTES (4u << 20)
#define SPARSE_SHARE 16
#define SPARSE_ALIVE 4
#define PINNED_IN_VAIN_BYTES (1 << 20) /* that a thread may have besides a quarter of what lives in full spans */

static void list_push(struct frame_span **head, struct frame_span *span)
{
	span->previous = NULL;
	span->next = *head;
	if (*head)
		(*head)->previous = span;
	*head = span;
}

static void list_remove(struct frame_span **head, struct frame_span *span)
{
	if (span->previous)
		span->previous->next = span->next;
	else
		*head = span->next;
	if (span->next)
		span->next->previous = span->previous;
}

static void make_current(struct thread *thread, struct frame_span *span)
{
	span->end = NULL;
	span->alive = 0;
	span->judged = 0;
	span->empty = 0;
	thread->span = span;
	thread->bump = (uint8_t *)span + FRAME_SPAN_FIRST;
	thread->limit = (uint8_t *)span + REGION_CHUNK_BYTES;
}

/* The current span is full: it joins the full ones, or the empty ones when nothing in it is alive. */
static void leave_current(struct thread *thread)
{
	struct frame_span *span = thread->span;
	if (!span)
		return;
	span->end = thread->bump;
	span->alive += frame_used(thread);
	list_push(&thread->full_spans, span);
	fa_assert(span->alive > 0);
	thread->span = NULL;
	thread->bump = thread->limit = NULL;
}

void frame_look_for_sparse(struct thread *thread)
{
	uint64_t filled = (uint64_t)(thread->spans_owned - thread->spans_empty) << REGION_CHUNK_BITS;
	int64_t alive = thread->record->tier[TRACE_TIER_FRAME].live_bytes;
	thread->spans_sparse = filled > SPARSE_BYTES + trace_header->peak_bytes / SPARSE_SHARE &&
			       (int64_t)(filled / SPARSE_ALIVE) > alive;
}

uint8_t *frame_refill(struct thread *thread, size_t need)
{
	if (need > REGION_CHUNK_BYTES - FRAME_SPAN_FIRST)
		return NULL;
	if (remote_drain(thread) && need <= (size_t)(thread->limit - thread->bump))
		return thread->bump;
	if (unlikely(thread->record->tier[TRACE_TIER_FRAME].live_bytes > thread->peak_at[TRACE_TIER_FRAME]))
		account_peak(thread); /* may end an abandoned frame, and what lives in it */
	if (frame_nothing_alive(thread)) {
		frame_begin_anew(thread);
		return thread->bump;
	}
	struct frame_span *span = thread->empty_spans;
	if (span) {
		list_remove(&thread->empty_spans, span);
		if (--thread->spans_empty < thread->spans_empty_low)
			thread->spans_empty_low = thread->spans_empty;
	} else {
		if ((uint64_t)(thread->spans_owned + 1) << REGION_CHUNK_BITS > runtime.frame_limit)
			return NULL;
		bool has_pages;
		span = region_span_take(REGION_FRAME, &has_pages);
		if (!span)
			return NULL;
		if (!has_pages && thread->spans_owned > 1) /* its third: it will fill up as those did */
			base_fill(span, REGION_CHUNK_BYTES);
		span->owner = thread;
		thread->spans_owned++;
		account_footprint(TRACE_TIER_FRAME, REGION_CHUNK_BYTES);
		heap_other_taken(REGION_CHUNK_BYTES);
	}
	leave_current(thread);
	make_current(thread, span);
	frame_look_for_sparse(thread);
	return thread->bump;
}

void frame_span_emptied(struct thread *thread, struct frame_span *span)
{
	list_remove(&thread->full_spans, span);
	list_push(&thread->empty_spans, span);
	span->empty = 1;
	thread->spans_empty++;
}

bool frame_resize_top(struct thread *thread, struct block *block, size_t size)
{
	uint8_t *start = (uint8_t *)(block + 1);
	if (frame_span_of(block) != thread->span || start + block_usable(block_size(block)) != thread->bump ||
	    block_usable(size) > (size_t)(thread->limit - start))
		return false;
	thread->bump = start + block_usable(size);
	return true;
}

/* The site of a block that is alive. Another thread may be freeing it: it marks `state` dead before it puts the list's
   link, which has no BLOCK_LIVES, in the place of `birth`, so a birth that was read while the block still lives is one. */
static bool live_site(const struct block *block, uint32_t *site)
{
	uint64_t birth = __atomic_load_n(&block->birth, __ATOMIC_ACQUIRE);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if ((__atomic_load_n(&block->state, __ATOMIC_RELAXED) ^ block_check(block + 1)) >> 48 || !(birth & BLOCK_LIVES))
		return false;
	*site = counter_at((uint32_t)birth & BLOCK_COUNTER_MASK)->site;
	return true;
}

/* Every block of a left span, alive or dead, in order. */
static size_t walk(struct thread *thread, struct frame_span *span,
		   void (*survivor)(struct thread *thread, uint32_t site, size_t share), size_t share)
{
	size_t alive = 0;
	for (uint8_t *at = (uint8_t *)span + FRAME_SPAN_FIRST; at < span->end;) {
		struct block *block = (struct block *)at;
		uint32_t site;
		if (live_site(block, &site)) {
			alive++;
			if (survivor)
				survivor(thread, site, share);
		}
		at = (uint8_t *)(block + 1) + block_usable(block_size(block));
	}
	return alive;
}

/* However little of its blocks a site loses, what they pin piles up where many frames come by. Full spans are looked at anew
   when there are an eighth more or fewer of them: a few loads for each that came or went. */
static void look_at_pinned(struct thread *thread)
{
	uint32_t full = thread->spans_owned - thread->spans_empty - (thread->span != NULL),
		 before = thread->pins_looked_at;
	if ((full > before ? full - before : before - full) <= before / 8)
		return;
	int64_t alive = 0;
	for (const struct frame_span *span = thread->full_spans; span; span = span->next)
		alive += span->alive;
	thread->pins_looked_at = full;
	thread->pins_much = ((int64_t)full << REGION_CHUNK_BITS) - alive > PINNED_IN_VAIN_BYTES + alive / 4;
}

void frame_judge(struct thread *thread, void (*survivor)(struct thread *thread, uint32_t site, size_t share))
{
	look_at_pinned(thread);
	for (struct frame_span *span = thread->full_spans; span && !span->judged; span = span->next) {
		size_t alive = walk(thread, span, NULL, 0);
		if (alive)
			walk(thread, span, survivor, REGION_CHUNK_BYTES / alive);
		span->judged = 1;
	}
}

void frame_trim(struct thread *thread)
{
	uint32_t idle = thread->spans_empty_low;
	while (idle-- && thread->empty_spans) {
		struct frame_span *span = thread->empty_spans;
		list_remove(&thread->empty_spans, span);
		thread->spans_empty--;
		thread->spans_owned--;
		account_footprint(TRACE_TIER_FRAME, -(int64_t)REGION_CHUNK_BYTES);
		region_span_give(span);
	}
	thread->spans_empty_low = thread->spans_empty;
}
