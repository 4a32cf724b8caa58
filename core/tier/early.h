/*
 * Blocks of the shim's own start: what the loader allocates for the library that it opens then. They lie in one span, so that a
 * program that needs nothing of jemalloc's does not pay for its start, 55 pages. There they stay: freeing them does nothing.
 */
#ifndef FA_TIER_EARLY_H
#define FA_TIER_EARLY_H

#include "core/block.h"

/* As heap_alloc, for an untracked block. NULL: it is not to lie here, jemalloc is at work already. Thread-safe. */
void *early_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag, bool zeroed);

#endif
