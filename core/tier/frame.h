/*
 * The frame tier: one bump arena per thread, made of 64 KiB spans (DESIGN §4).
 *
 * Invariant: a span is reused only when no block in it is alive (born == dead, remote frees taken back included). A block
 * that outlives its frame pins its span; the program can go on using it for as long as it likes.
 * Within a span, blocks lie one after another from FRAME_SPAN_FIRST to the bump pointer, each with its header, so that a
 * span can be walked.
 */
#ifndef FA_TIER_FRAME_H
#define FA_TIER_FRAME_H

#include "core/block.h"
#include "core/region.h"
#include "core/thread.h"

struct frame_span {
	struct thread *owner;
	struct frame_span *next, *previous; /* in the owner's list of full or empty spans */
	uint8_t *end;       /* bump pointer when it was left; NULL while current */
	uint64_t born, dead; /* blocks, owner's view: remote frees not yet taken back count as alive. `born` of the current span
	                        is thread->span_born, and here FRAME_SPAN_CURRENT */
	uint32_t judged;    /* 1: its survivors have been counted against their sites */
	uint32_t empty;     /* 1: on the empty list */
};
#define FRAME_SPAN_FIRST 64u
#define FRAME_SPAN_CURRENT UINT64_MAX
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
	thread->span_born++;
	return at;
}

/* Nothing lives in the current span. */
static always_inline void frame_begin_anew(struct thread *thread, struct frame_span *span)
{
	thread->bump = (uint8_t *)span + FRAME_SPAN_FIRST;
	thread->span_born = span->dead = 0;
}

/* The current span's top block has died. */
static always_inline void frame_retract(struct thread *thread, struct frame_span *span, struct block *block)
{
	thread->bump = (uint8_t *)block;
	if (span->dead == thread->span_born)
		frame_begin_anew(thread, span);
}

/* A block of `usable` bytes in the calling thread's own span; already marked dead. The top block gives its room back.
   True: the span is not the current one, and nothing in it lives any more. */
static always_inline bool frame_give_last(struct thread *thread, struct frame_span *span, struct block *block, size_t usable)
{
	bool emptied = ++span->dead == span->born;
	if ((uint8_t *)(block + 1) + usable == thread->bump)
		frame_retract(thread, span, block);
	return emptied;
}

static always_inline void frame_give(struct thread *thread, struct block *block, size_t size)
{
	if (frame_give_last(thread, frame_span_of(block), block, block_usable(size)))
		frame_span_emptied(thread, frame_span_of(block));
}

/* Grows or shrinks the top block where it lies. False: it is not the top block, or the span is full. */
bool frame_resize_top(struct thread *thread, struct block *block, size_t size);

/* At a frame end: calls `survivor` for each block alive in spans filled since the last call that will stay pinned;
   `share` is the part of the span's bytes it pins. Returns the bytes pinned in all. */
size_t frame_end(struct thread *thread, void (*survivor)(struct thread *thread, uint32_t site, size_t share));

/* Gives idle empty spans back to the region. */
void frame_trim(struct thread *thread);

#endif
