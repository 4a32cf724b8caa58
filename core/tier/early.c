#include "core/tier/early.h"

#include <sys/mman.h>

#define EARLY_BLOCK_MAX 4096u

_Atomic uintptr_t early_start;
static _Atomic size_t used;

/* 0: there is none. */
static uintptr_t chunk(void)
{
	uintptr_t now = atomic_load_explicit(&early_start, memory_order_acquire);
	if (!now) {
		uintptr_t made = (uintptr_t)region_heap_map(REGION_CHUNK_BYTES, PROT_READ | PROT_WRITE);
		if (!atomic_compare_exchange_strong(&early_start, &now, made ? made : 1) && made)
			region_heap_unmap((void *)made, REGION_CHUNK_BYTES);
		now = atomic_load_explicit(&early_start, memory_order_acquire);
	}
	return now == 1 ? 0 : now;
}

void *early_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag)
{
	uintptr_t from = size <= EARLY_BLOCK_MAX && align <= BLOCK_HEADER_BYTES ? chunk() : 0;
	size_t bytes = block_usable(size) + BLOCK_HEADER_BYTES;
	if (!from)
		return NULL;
	size_t at = atomic_load_explicit(&used, memory_order_relaxed);
	do
		if (bytes > REGION_CHUNK_BYTES - at)
			return NULL;
	while (!atomic_compare_exchange_weak_explicit(&used, &at, at + bytes, memory_order_relaxed,
						      memory_order_relaxed));
	return block_start((struct block *)(from + at), birth, tag | BLOCK_TIER(TRACE_TIER_HEAP), size);
}
