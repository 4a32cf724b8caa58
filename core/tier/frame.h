/*
 * The frame tier: one bump arena per thread, made of 64 KiB spans (DESIGN §4).
 *
 * Invariant: a span is reused only when no block in it is alive (remote frees taken back included). A block
 * that outlives its frame pins its span; the program can go on using it for as long as it likes.
 * Within a span, blocks lie one after another from FRAME_SPAN_FIRST to the bump pointer, each with its header, so that a
 * span can be walked.
 */
#ifndef FA_TIER_FRAME_H
#define FA_TIER_FRAME_H

#include "core/block.h"
#include "core/region/region.h"
#include "core/thread.h"

struct frame_span {
	struct thread *owner;
	struct frame_span *next, *previous; /* in the owner's list of full or empty spans */
	uint8_t *end; /* bump pointer when it was left; NULL while current */
	int64_t alive; /* bytes of live blocks with their headers, owner's view: remote frees not yet taken back are alive.
	                       Of the current span less all that lies below the bump pointer, so that a birth adds nothing */
	uint32_t judged; /* 1: its survivors have been counted against their sites */
	uint32_t empty; /* 1: on the empty list */
};
#define FRAME_SPAN_FIRST 64u
_Static_assert(sizeof(struct frame_span) <= FRAME_SPAN_FIRST, "header room");

static always_inline struct frame_span *frame_span_of(const void *pointer)
{
	return (struct frame_span *)((uintptr_t)pointer & ~(REGION_CHUNK_BYTES - 1));
}

/* Room for `need` bytes (header included, multiple of 16) after a refill; NULL at the thread's limit or when memory is
   denied: the caller takes the next tier. */
uint8_t *frame_refill(struct thread *thread, size_t need);

/* The last live block of a span that is not the current one died. */
void frame_span_emptied(struct thread *thread, struct frame_span *span);

/* Cost: one compare, three stores. NULL: refill failed. */
static always_inline uint8_t *frame_take(struct thread *thread, size_t size)
{
	size_t need = block_usable(size) + BLOCK_HEADER_BYTES;
	uint8_t *at = thread->bump;
	if (unlikely(need > (size_t)(thread->limit - at)) && !(at = frame_refill(thread, need)))
		return NULL;
	thread->bump = at + need;
	return at;
}

/* Bytes of the current span that have been handed out. */
static always_inline int64_t frame_used(const struct thread *thread)
{
	return thread->bump - ((const uint8_t *)thread->span + FRAME_SPAN_FIRST);
}

static always_inline bool frame_nothing_alive(const struct thread *thread)
{
	return thread->span && thread->span->alive + frame_used(thread) == 0;
}

/* Nothing lives in the current span. */
static always_inline void frame_begin_anew(struct thread *thread)
{
	thread->bump = (uint8_t *)thread->span + FRAME_SPAN_FIRST;
	thread->span->alive = 0;
}

/* The current span's top block has died: its room is as if never handed out. */
static always_inline void frame_retract(struct thread *thread, struct block *block)
{
	thread->bump = (uint8_t *)block;
	int64_t alive = thread->span->alive;
	if (alive && alive + frame_used(thread) == 0) /* else the span has no dead, and begins anew by itself */
		frame_begin_anew(thread);
}

/* A block of so many usable bytes has died, and its room stays. True: it was the last of a span that is not the current one.
   One instruction, so that of a thread and its signal handlers only one sees the last. */
static always_inline bool frame_one_dead(struct frame_span *span, size_t usable)
{
	bool last;
	__asm__("subq %2, %0" : "+m"(span->alive), "=@ccz"(last) : "r"(usable + BLOCK_HEADER_BYTES));
	return last;
}

/* A block of `size` bytes in the calling thread's own span; already marked dead. The top block gives its room back. */
static always_inline void frame_give(struct thread *thread, struct block *block, size_t size)
{
	struct frame_span *span = frame_span_of(block);
	if ((uint8_t *)(block + 1) + block_usable(size) == thread->bump)
		frame_retract(thread, block);
	else if (frame_one_dead(span, block_usable(size)))
		frame_span_emptied(thread, span);
}

/* Grows or shrinks the top block where it lies. False: it is not the top block, or the span is full. */
bool frame_resize_top(struct thread *thread, struct block *block, size_t size);

/* At a frame end: the current span begins anew if nothing in it is alive. Returns the bytes that stay pinned in all. */
static always_inline size_t frame_rewind(struct thread *thread)
{
	size_t full = thread->spans_owned - thread->spans_empty, empty = 0;
	if (frame_nothing_alive(thread)) { /* hot in cache in the next frame */
		frame_begin_anew(thread);
		empty = 1;
	}
	return (full - empty) * REGION_CHUNK_BYTES;
}

/* After that: calls `survivor` for each block alive in spans filled since the last call; `share` is the part of the span's
   bytes it pins. New full spans are at the head; those already judged follow. */
void frame_judge(struct thread *thread, void (*survivor)(struct thread *thread, uint32_t site, size_t share));
static always_inline bool frame_is_to_judge(const struct thread *thread)
{
	return thread->full_spans && !thread->full_spans->judged;
}

/* Decides `spans_sparse`. */
void frame_look_for_sparse(struct thread *thread);

/* Gives idle empty spans back to the region. */
void frame_trim(struct thread *thread);
#define FRAME_SPANS_KEPT 128u
/* All empty ones: the thread ends, or memory is wanting. Some keep their pages, for who comes next. */
static inline void frame_give_empty(struct thread *thread)
{
	bool many = thread->spans_empty > FRAME_SPANS_KEPT;
	thread->spans_empty_low = thread->spans_empty;
	frame_trim(thread);
	if (many)
		region_span_keep(FRAME_SPANS_KEPT);
}

#endif
