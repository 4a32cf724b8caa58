/*
 * Size-class slabs of one thread's slot, 64 KiB each: the pool tier, and the heap tier's small blocks, which would cost
 * more behind jemalloc's own thread cache than all the rest of malloc. Each tier has slabs of its own. A free by another
 * thread reaches the owner through its remote queue (remote.h); everything here runs on the owning thread.
 *
 * Invariant: born - dead counts the blocks handed out and not yet given back here, and one for the slab that allocations
 * come from; where they are equal the slab is on no block's way and may leave. The others of its class form a ring.
 */
#ifndef FA_TIER_POOL_H
#define FA_TIER_POOL_H

#include "core/block.h"
#include "core/region.h"
#include "core/thread.h"

struct pool_slab {
	struct thread *owner;
	struct pool_slab *next, *previous; /* ring of the class, without the current slab */
	struct block *free;  /* dead blocks, chained by block.birth */
	uint8_t *bump;       /* room never handed out yet */
	uint32_t stride;     /* bytes from one header to the next */
	uint32_t class_index;
	uint32_t born, dead; /* wrap around: only their difference means something */
	uint32_t tier;       /* enum trace_tier that its blocks are accounted to */
};
#define POOL_SLAB_FIRST 64u
_Static_assert(sizeof(struct pool_slab) <= POOL_SLAB_FIRST, "header room");

/* Largest block of the heap tier that lies in a slab. */
#define POOL_HEAP_MAX 1024u

/* 16-byte steps up to 256, then four classes an octave up to 8 KiB: at most a quarter of a block is slack. */
static always_inline uint32_t pool_class(size_t usable)
{
	if (usable <= 256)
		return (uint32_t)(usable / 16 - 1);
	uint32_t octave = 63u - (uint32_t)__builtin_clzll(usable - 1); /* >= 8 */
	return 16u + (octave - 8u) * 4u + (uint32_t)(((usable - 1) >> (octave - 2)) & 3u);
}

static always_inline size_t pool_class_bytes(uint32_t class_index)
{
	if (class_index < 16)
		return (class_index + 1u) * 16u;
	uint32_t octave = 8u + (class_index - 16u) / 4u;
	return ((size_t)1 << octave) + ((size_t)((class_index - 16u) % 4u + 1u) << (octave - 2));
}

static always_inline struct pool_slab *pool_slab_of(const void *pointer)
{
	return (struct pool_slab *)((uintptr_t)pointer & ~(REGION_CHUNK_BYTES - 1));
}

struct block *pool_take_slow(struct thread *thread, enum trace_tier tier, uint32_t class_index);
void pool_slab_emptied(struct thread *thread, struct pool_slab *slab);

/* Cost: two loads, one compare, two stores. NULL: memory is denied. */
static always_inline struct block *pool_take(struct thread *thread, enum trace_tier tier, size_t size)
{
	uint32_t class_index = pool_class(block_usable(size));
	struct pool_slab *slab = thread->slabs[tier].current[class_index];
	if (unlikely(!slab || !slab->free))
		return pool_take_slow(thread, tier, class_index);
	struct block *block = slab->free;
	slab->free = (struct block *)block->birth;
	slab->born++;
	return block;
}

/* A block of one of the calling thread's own slabs; already marked dead. True: it was the slab's last. */
static always_inline bool pool_give_last(struct block *block)
{
	struct pool_slab *slab = pool_slab_of(block);
	block->birth = (uint64_t)slab->free;
	slab->free = block;
	return ++slab->dead == slab->born;
}

static always_inline void pool_give(struct thread *thread, struct block *block)
{
	if (unlikely(pool_give_last(block)))
		pool_slab_emptied(thread, pool_slab_of(block));
}

/* Bytes a block of this slab can hold. */
static always_inline size_t pool_capacity(const struct block *block)
{
	return pool_slab_of(block)->stride - BLOCK_HEADER_BYTES;
}

#endif
