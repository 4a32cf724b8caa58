/*
 * The header of every block, in every tier: 16 bytes right before the address that the program sees.
 *
 *   birth   63 62                    20 19 18 17         0
 *          +--+------------------------+--+--+------------+
 *          |li| segment (43) ^ secret  |np|sl| counter    |
 *          +--+------------------------+--+--+------------+
 *   state   63    48 47       38 37                     0
 *          +--------+-----------+-----------------------+
 *          | check  | tag (10)  | requested bytes (38)  |
 *          +--------+-----------+-----------------------+
 *
 * counter = where the site's counters of the slot that allocated lie in the recording, in cache lines; they name the site.
 * sl = the block lies in a slab, not in a frame span. np = not plain: it lies elsewhere, belongs to a task, is in no count,
 * has no bytes, or its end means something. li = it lives. So one compare of `birth` with what the thread's present segment
 * would write there tells that a block is alive, was born in it, and is one that the fast paths know how to free.
 * check = a function of the address and a secret, or its complement where block_kill has been; anything else is no block's
 * start. A plain block dies by its birth alone, one store less: that becomes its own complement in a span, a link in a slab,
 * which as an address has no `li`. So both words must be those of a live block. Where another block's bytes come to lie on a
 * dead header, they take all of its birth before they can set `li`, and then the segment hardly is one.
 * 43 bits of segment last for 2.8 years at 100,000 markers a second.
 */
#ifndef FA_BLOCK_H
#define FA_BLOCK_H

#include "core/base.h"
#include "core/segment.h"
#include "core/trace/format.h"

#define BLOCK_HEADER_BYTES 16u
#define BLOCK_SEGMENT_SHIFT 20
#define BLOCK_NOT_PLAIN (1u << 19)
#define BLOCK_IN_SLAB (1u << 18)
#define BLOCK_LIVES (1ull << 63)
#define BLOCK_COUNTER_MASK (BLOCK_IN_SLAB - 1)
#define BLOCK_COUNTER_BYTES 64u
#define BLOCK_TAG_SHIFT 38
#define BLOCK_SIZE_MASK ((1ull << BLOCK_TAG_SHIFT) - 1)
#define BLOCK_SIZE_MAX (BLOCK_SIZE_MASK - 4096)
#define BLOCK_SEGMENT_MAX ((1ull << 43) - 1)

struct block {
	uint64_t birth;
	uint64_t state;
};

/* Tag bits. */
#define BLOCK_TIER(tier) ((uint32_t)(tier)) /* 0-1: where the block lies */
#define BLOCK_ACCOUNT(tier) ((uint32_t)(tier) << 2) /* 2-3: the tier it is accounted to */
#define BLOCK_SCOPE 0x30u /* 4-5: where it was born */
#define BLOCK_IN_SCOPE 0x10u /* a frame, or with the other bit a task */
#define BLOCK_UNCOUNTED 0x20u /* in no count: made for the shim itself, or inherited */
#define BLOCK_IN_TASK 0x30u
#define BLOCK_ALIGNED 0x40u /* heap tier: its alignment stands in the 8 bytes before the header */
#define BLOCK_ASKED 0x80u /* frame memory was asked for, by API or rule */
#define BLOCK_HANDED 0x100u /* handed over to another thread on purpose (pthread_create) */
#define BLOCK_SPECIAL 0x200u /* its end is more than its own: see attach.h; or uncounted */
#define BLOCK_UNTRACKED (BLOCK_UNCOUNTED | BLOCK_SPECIAL)

extern uint64_t block_secret own_data; /* set once at start-up; its low 48 bits are 0 */
extern uint64_t block_birth_secret own_data; /* the same, its low 20; its highest is 1: BLOCK_LIVES */
extern uint64_t block_span_base own_data; /* block_state_base of a plain block in a span */

static always_inline uint64_t block_check(const void *pointer)
{
	return (uintptr_t)pointer << 44 ^ block_secret;
}

static always_inline struct block *block_of(const void *pointer)
{
	return (struct block *)((uintptr_t)pointer - BLOCK_HEADER_BYTES);
}

/* What a block of this tag has in its birth word besides segment and counter. */
static always_inline uint64_t block_kind(uint32_t tag, size_t size)
{
	if ((tag & BLOCK_SCOPE) > BLOCK_IN_SCOPE || tag & BLOCK_SPECIAL || (tag & 3) > TRACE_TIER_POOL || !size)
		return BLOCK_NOT_PLAIN;
	return (tag & 3) == TRACE_TIER_POOL ? BLOCK_IN_SLAB : 0;
}

/* `birth` with its kind; `state_base` is the secret with the tag. */
static always_inline void *block_start_plain(struct block *block, uint64_t birth, uint64_t state_base, size_t size)
{
	void *pointer = block + 1;
	block->birth = birth;
	block->state = ((uintptr_t)pointer << 44 ^ state_base) | size;
	return pointer;
}

static always_inline uint64_t block_state_base(uint32_t tag)
{
	return block_secret | (uint64_t)tag << BLOCK_TAG_SHIFT;
}

static always_inline void *block_start(struct block *block, uint64_t birth, uint32_t tag, size_t size)
{
	return block_start_plain(block, birth | block_kind(tag, size), block_state_base(tag), size);
}

static always_inline void block_unplain(struct block *block)
{
	block->birth = (block->birth & ~(uint64_t)BLOCK_IN_SLAB) | BLOCK_NOT_PLAIN;
}

/* Tag and size, below 16 bits that are 0 where the check is right, all 1 where it is the complement. */
static always_inline uint64_t block_contents(const struct block *block)
{
	return block->state ^ block_check(block + 1);
}

static always_inline uint64_t block_segment_of(uint64_t birth)
{
	return (birth ^ block_birth_secret) << 1 >> (BLOCK_SEGMENT_SHIFT + 1);
}

static always_inline uint64_t block_birth_of(uint64_t segment)
{
	return segment << BLOCK_SEGMENT_SHIFT ^ block_birth_secret;
}

static always_inline bool block_birth_lives(uint64_t birth)
{
	return birth & BLOCK_LIVES && segment_was_leased(block_segment_of(birth));
}

static always_inline bool block_is_live(const struct block *block)
{
	return !(block_contents(block) >> 48) && block_birth_lives(block->birth);
}

static always_inline bool block_is_dead(const struct block *block)
{
	uint64_t check = block_contents(block) >> 48;
	return check == 0xffff || (!check && !block_birth_lives(block->birth));
}

static always_inline void block_kill(struct block *block)
{
	block->state ^= 0xffffull << 48;
	block->birth &= ~BLOCK_LIVES;
}

/* The same of a plain block in a span of the calling thread. */
static always_inline void block_kill_in_span(struct block *block)
{
	block->birth = ~block->birth;
}

/* The birth of a block in a span, however it has died: what it says of segment and counter. */
static always_inline uint64_t block_birth_told(const struct block *block)
{
	bool killed_in_span = !(block_contents(block) >> 48) && !(block->birth & BLOCK_LIVES);
	return killed_in_span ? ~block->birth : block->birth;
}

/* A block of the heap tier that was killed lives on. */
static always_inline void block_revive(struct block *block)
{
	block->state ^= 0xffffull << 48;
	block->birth |= BLOCK_LIVES;
}

static always_inline uint32_t block_tag(const struct block *block)
{
	return (uint32_t)(block->state >> BLOCK_TAG_SHIFT) & 0x3ff;
}

/* The tier that a block of this tag is accounted to. */
static always_inline enum trace_tier block_account(uint64_t tag)
{
	return (enum trace_tier)(tag >> 2 & 3);
}

static always_inline void block_mark(struct block *block, uint32_t tag_bits)
{
	if (tag_bits & BLOCK_SPECIAL)
		block_unplain(block);
	block->state |= (uint64_t)tag_bits << BLOCK_TAG_SHIFT;
}

static always_inline void block_unmark(struct block *block, uint32_t tag_bits)
{
	block->state &= ~((uint64_t)tag_bits << BLOCK_TAG_SHIFT);
}

static always_inline bool block_is_untracked(const struct block *block)
{
	return (block_tag(block) & BLOCK_SCOPE) == BLOCK_UNCOUNTED;
}

static always_inline size_t block_size(const struct block *block)
{
	return block->state & BLOCK_SIZE_MASK;
}

/* What the program may write, and what live and peak figures count: the same in every tier. */
static always_inline size_t block_usable(size_t size)
{
	return ((size - (size != 0)) | 15) + 1;
}

/* Where its counters lie in the recording. */
static always_inline uint32_t block_counter(const struct block *block)
{
	return (uint32_t)block->birth & BLOCK_COUNTER_MASK;
}

static always_inline uint64_t block_segment(const struct block *block)
{
	return block_segment_of(block->birth);
}

#endif
