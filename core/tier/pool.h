/*
 * Size-class slabs of one thread's slot, 64 KiB each: the pool tier, and the heap tier's small blocks, which would cost
 * more behind jemalloc's own thread cache than all the rest of malloc. Each tier has slabs of its own. A free by another
 * thread reaches the owner through its remote queue (remote.h); everything here runs on the owning thread.
 *
 * What is freed goes to a short list of its class, the cache, and comes from there again; an empty cache is filled with all
 * that a slab has, and what a full one has no room for goes to its slab.
 *
 * Invariant: born - dead counts the blocks that the program or a cache has, and one for the slab that the cache is filled
 * from; where they are equal the slab is on no block's way and may leave. The others of its class form a ring. A block's
 * size class is its slab's, but for those whose header says that they are not plain.
 */
#ifndef FA_TIER_POOL_H
#define FA_TIER_POOL_H

#include "core/block.h"
#include "core/region/region.h"
#include "core/thread.h"

struct pool_slab {
	struct thread *owner;
	struct pool_slab *next, *previous; /* ring of the class, without the current slab */
	struct block *free; /* dead blocks, chained by block.birth */
	uint8_t *bump; /* room never handed out yet */
	uint32_t stride; /* bytes from one header to the next */
	uint32_t class_index;
	uint32_t born, dead; /* wrap around: only their difference means something */
	uint32_t tier; /* enum trace_tier that its blocks are accounted to */
	uint32_t filled; /* base_fill_ahead */
};
#define POOL_SLAB_FIRST 64u
_Static_assert(sizeof(struct pool_slab) <= POOL_SLAB_FIRST, "header room");

/* 16-byte steps up to 256, then four classes an octave up to 8 KiB: at most a quarter of a block is slack. */
static always_inline uint32_t pool_class(size_t usable)
{
	if (usable <= 256)
		return (uint32_t)(usable / 16 - 1);
	uint32_t octave = 63u - (uint32_t)__builtin_clzll(usable - 1); /* >= 8 */
	return 16u + (octave - 8u) * 4u + (uint32_t)(((usable - 1) >> (octave - 2)) & 3u);
}

/* The same from a table, for sizes that slabs serve. */
#define POOL_BYTES_MAX 8192u
#define POOL_HEAP_MAX POOL_BYTES_MAX /* largest block of the heap tier that lies in a slab */
extern uint8_t pool_classes[POOL_BYTES_MAX / 16 + 1] own_data;
static always_inline uint32_t pool_class_known(size_t usable)
{
	return pool_classes[usable / 16];
}
void pool_init(void);

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

cold_path struct block *pool_take_slow(struct thread *thread, enum trace_tier tier, uint32_t class_index);

/* Cost: two loads, two stores. The next block is fetched: who was freed long ago is in no cache. NULL: there is none. */
static always_inline struct block *pool_pop(struct thread_cache *cache)
{
	struct block *block = cache->head;
	if (likely(block != NULL)) {
		struct block *following = (struct block *)block->birth;
		__builtin_prefetch(following, 1);
		cache->head = following;
		cache->room++;
	}
	return block;
}

/* NULL: memory is denied. */
static always_inline struct block *pool_take(struct thread *thread, enum trace_tier tier, size_t size)
{
	uint32_t class_index = pool_class_known(block_usable(size));
	struct block *block = pool_pop(&thread->slabs[tier].cache[class_index]);
	return likely(block != NULL) ? block : pool_take_slow(thread, tier, class_index);
}

/* The last block of a slab has died that no cache is filled from. */
cold_path void pool_slab_emptied(struct thread *thread, struct pool_slab *slab);
/* Gives slabs what is in caches, which keeps them from leaving. */
void pool_empty_caches(struct thread *thread);

/* A block of one of the calling thread's own slabs, which dies by this if it is not dead already. True: pool_slab_emptied must
   follow. */
static always_inline bool pool_give_last(struct thread_cache *cache, struct block *block)
{
	if (likely(cache->room > 0)) {
		cache->room--;
		block->birth = (uint64_t)cache->head;
		cache->head = block;
		return false;
	}
	struct pool_slab *slab = pool_slab_of(block);
	block->birth = (uint64_t)slab->free;
	slab->free = block;
	return ++slab->dead == slab->born;
}

static always_inline void pool_give(struct thread *thread, struct block *block)
{
	struct pool_slab *slab = pool_slab_of(block);
	if (unlikely(pool_give_last(&thread->slabs[slab->tier].cache[slab->class_index], block)))
		pool_slab_emptied(thread, slab);
}

/* Bytes a block of this slab can hold. */
static always_inline size_t pool_capacity(const struct block *block)
{
	return pool_slab_of(block)->stride - BLOCK_HEADER_BYTES;
}

#endif
