/*
 * The heap tier: our hidden copy of jemalloc, living whole in the region (DESIGN §4). Callers hand in the header's
 * contents; the tier finds the room. Thread-safe by jemalloc; a signal handler that interrupted jemalloc on
 * its thread is served by pages of its own. Errors: NULL, errno untouched.
 */
#ifndef FA_TIER_HEAP_H
#define FA_TIER_HEAP_H

#include "core/block.h"

/* At the start: what must be had before the program's own code takes it: handlers of forks that come before the program's, a thread
   key, memory. jemalloc is set up by the first block that lies here; now, where memory is limited or somebody has options for it. */
void heap_begin(void);
/* The process is about to limit its memory, or to lock it: jemalloc is set up before. */
void heap_before_limits(void);
/* Sets jemalloc up, if it is not. False: it must not be entered. */
bool heap_set_up(void);

/* A block of `size` bytes; `align` is a power of two. `tag` without tier bits; zeroed when asked. */
void *heap_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag, bool zeroed);

/* `block` is live and of this tier; its header is already marked dead by the caller. */
void heap_free(struct block *block);
/* The same where jemalloc must not be entered: this thread's next call here does it. */
void heap_free_later(struct block *block);
void heap_free_rest(void); /* what waits for that; a thread ends */

/* Grows or shrinks a live block without alignment, keeping min(old, new) bytes; writes the new header. NULL leaves the
   old block as it was. */
void *heap_realloc(struct block *block, size_t size, uint64_t birth, uint32_t tag);

/* Another tier has taken so many bytes: what jemalloc keeps free may be too much now (heap_pages.h). */
void heap_other_taken(size_t bytes);
/* To be called now and then: jemalloc's free pages are looked at once more after some time. */
void heap_later(uint64_t now_ns);

/* Memory that jemalloc holds: allocated, active (resident in pages), mapped; zeros inside jemalloc itself. Slow. */
void heap_stats(size_t *allocated_bytes, size_t *active_bytes, size_t *mapped_bytes);
void heap_trim(void); /* returns free pages to the system */
void heap_child(void); /* child of a fork without atfork handlers: makes jemalloc's locks usable */

#endif
