/*
 * Which of the pages that jemalloc has no block in stay with the process. By itself it keeps them for ten seconds, but gives
 * back at once what lies together by 8 MiB: a program that frees so much and allocates it again, each frame or each turn of a
 * loop, takes a page fault for each page each time (arrays of 12 MB in numpy: 3.1 s, 0.9 s where they stay).
 *
 * Here they stay while they and all that lives are hardly more than what has lived at once before, so that keeping them
 * hardly raises the peak (where each thread has an arena, by what does not fit the others); when they are more, they go, and
 * for a second jemalloc does as it likes. They also go as long as what has gone, should it all have been wanted again, has
 * cost no more page faults than the peak took, and 4 MiB a second since; what nobody wanted for a second costs nothing. A
 * program that frees all it has, once, and waits has them no longer; one that frees and allocates without end, and then only
 * small blocks, soon after; one that then allocates nothing at all keeps them. Spans are kept by rules like these (region.h);
 * what both keep is bounded here, where free spans go first.
 */
#ifndef FA_TIER_HEAP_PAGES_H
#define FA_TIER_HEAP_PAGES_H

#include "core/base.h"

/* Blocks that are worth telling of. */
#define HEAP_PAGES_LARGE (32u << 10)

/* So many bytes have been taken for a large block or for spans. The thread is inside jemalloc. Any thread. Cost: an addition; a
   look at jemalloc's figures (11 us and more, by the number of its arenas) for each 16 MiB that come or go, or sixteenth of the
   peak if that is more, for what is taken at most one in 2 ms; no thread waits for another. */
void heap_pages_taken(size_t bytes);
/* A large block is about to be freed. The same. */
void heap_pages_freed(void *start, size_t bytes);
/* A block has been resized, where it lies or elsewhere: one of the two sizes is large. The same. */
void heap_pages_resized(size_t before, size_t size);
/* Free pages are kept that may have to go when nothing large comes and goes any more. While that is so, to be called now and
   then: a second after the last look there is another. The same. */
extern _Atomic bool heap_pages_watched;
void heap_pages_later(uint64_t now_ns);
/* All of them, now. The thread is inside jemalloc. */
void heap_pages_give_back(void);

#endif
