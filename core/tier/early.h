/*
 * Blocks that are in no count, while jemalloc is not set up: what the loader allocates as it opens libunwind for us, what children
 * that are not recorded allocate at first. They lie together in a chunk of the region and are not used again. They count as heap
 * tier. Thread-safe without locks.
 */
#ifndef FA_TIER_EARLY_H
#define FA_TIER_EARLY_H

#include "core/block.h"
#include "core/region/region.h"

/* As heap_alloc, zeroed. NULL also where it is large, aligned, or all is taken. */
void *early_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag);
extern _Atomic uintptr_t early_start; /* 0: there is no chunk yet; 1: there will be none */
static always_inline bool early_holds(const struct block *block)
{
	return (uintptr_t)block - atomic_load_explicit(&early_start, memory_order_relaxed) < REGION_CHUNK_BYTES;
}

#endif
