/*
 * Blocks mapped straight from the region. Large ones that grow: their pages are moved, not copied. Ones that take much of a
 * limited address space: jemalloc takes up to a quarter more than it is asked for, and keeps what it has. And those of a signal
 * handler that interrupted an allocation of its own thread and wants more than the pool serves: jemalloc may be half way
 * through an operation then; this path shares no state with it.
 * Such blocks count as heap tier; their tag says BLOCK_DIRECT where a tier would stand.
 */
#ifndef FA_TIER_DIRECT_H
#define FA_TIER_DIRECT_H

#include "core/block.h"

#define BLOCK_DIRECT 3u

/* As heap_alloc; always zeroed. */
void *direct_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag);
void direct_free(struct block *block);
/* The same with what `from` holds, a block of jemalloc's without alignment that is no larger. Its pages are taken, not copied: it
   reads zero from then on, but for its header, and is to be freed. NULL: that cannot be had. */
void *direct_take_over(struct block *from, size_t size, uint64_t birth, uint32_t tag);

/* From so many bytes on a block that realloc makes larger lies here. */
#define DIRECT_GROWN_MIN (1ul << 20)

/* Grows or shrinks a live block without alignment, keeping min(old, new) bytes; writes the new header. NULL leaves it as it
   was. Cost: two to four system calls, whatever the size; where it grew in place before and has to move, up to some fifty for each
   mapping that it consists of. */
void *direct_resize(struct block *block, size_t size, uint64_t birth, uint32_t tag);

#endif
