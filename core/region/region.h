/*
 * The region: one range of addresses that holds every block of ours, so that "whose is this pointer" is a subtraction, a
 * compare and a byte load (DESIGN §4). It is reserved as a whole, 1 TiB; but a process whose address space is limited
 * (RLIMIT_AS, where what is reserved counts, or RLIMIT_DATA, where what is committed does) has each piece mapped when it is
 * needed, and only as long.
 *
 * Layout: the first half belongs to jemalloc (region_heap_*), the second half is cut into 64 KiB spans for the frame
 * and pool tiers (region_span_*). Invariant: region.owner[i] != REGION_NONE exactly where chunk i is committed, so a
 * block header may be read wherever the table says so.
 */
#ifndef FA_REGION_H
#define FA_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "core/base.h"

#define REGION_CHUNK_BITS 16
#define REGION_CHUNK_BYTES (1ul << REGION_CHUNK_BITS)
#define REGION_HUGE_BYTES (2ul << 20) /* a huge page */

enum region_owner { REGION_NONE = 0, REGION_HEAP = 1, REGION_FRAME = 2, REGION_POOL = 3 };

/* Set once by region_init; only the last three change afterwards, when a limit comes. */
struct region {
	uintptr_t base;
	size_t bytes; /* 0: no region */
	uint8_t *owner;
	size_t heap_end,
		span_end; /* how far the two halves may be used, as offsets from base: less where a limit allows no more */
	size_t exact_min; /* blocks of so many bytes are to take no more addresses than they need */
};
extern struct region region own_data;

/* Finds the region's place. 0, or -ENOMEM, also where a limit leaves too little for the program and us. */
int region_init(void);

/* Whether the address space is limited, or was once: what nobody uses is not mapped. */
static always_inline bool region_is_limited(void)
{
	return region.exact_min < SIZE_MAX;
}

/* Cost: subtraction, compare, shift, byte load. */
static always_inline enum region_owner region_owner_of(const void *pointer)
{
	uintptr_t offset = (uintptr_t)pointer - region.base;
	if (unlikely(offset >= region.bytes))
		return REGION_NONE;
	return (enum region_owner)region.owner[offset >> REGION_CHUNK_BITS];
}

static always_inline bool region_holds(const void *pointer)
{
	uintptr_t offset = (uintptr_t)pointer - region.base;
	return offset < region.heap_end || (offset >= region.bytes / 2 && offset < region.span_end);
}

/* The process has limited its address space to `limit` bytes (SIZE_MAX: no longer): from the first limit on nothing is
   reserved any more, so that the program's own mappings and its stack find the room they would have had. */
void region_limit(size_t limit);

/* Whether more than half of what the process may map is unmapped yet: where there is a limit, what the library could do without
   is to leave the program that much. */
bool region_leaves_half(void);

/* The process is about to lock all that it has mapped, and will never have more than `limit` bytes: the same, and what of the
   tables will not be used for so many is out of the way as well. */
void region_lock(size_t limit);
/* It has: what of the tables will not be used is no longer part of that. Some kernels fill also what can only be read. */
void region_locked(void);

/* Takes `bytes` (page multiple) for jemalloc, committed with `prot`; NULL when the half is full or memory is denied. For one
   who must not wait (base.h) there are up to 16 MiB that are filled up whenever somebody else comes by.
   The start is aligned to 2 MiB when bytes is at least that. Thread-safe. */
void *region_heap_map(size_t bytes, int prot);
/* Gives a range back: its pages are released, its addresses may be handed out again. */
void region_heap_unmap(void *start, size_t bytes);

/* Grows or shrinks a range of region_heap_map that is readable and writable, where it lies, by whole chunks. False: it cannot
   grow there. */
bool region_heap_resize(void *start, size_t bytes, size_t new_bytes);
/* Moves pages of one such range to another, both of which are readable and writable, without copying; where they were reads zero then.
   What is beyond them there, up to `room` bytes, reads zero. False: they are where they were (some are locked, a kernel before
   5.7, a sandbox, too many mappings), and the other range is good for nothing but region_heap_unmap. errno is preserved. */
bool region_heap_move_pages(void *from, size_t bytes, void *to, size_t room);
/* Moves its pages to a larger range, without copying; what is beyond them reads zero. NULL: it stays where it is. */
void *region_heap_move(void *start, size_t bytes, size_t new_bytes);

/* So many threads have spans of their own; huge pages are used where each has many. */
void region_span_users(uint32_t users);
/* Takes one committed 64 KiB span, its chunk marked `owner`; contents undefined. `has_pages`: it was used before, and not purged.
   NULL when memory is denied. */
void *region_span_take(enum region_owner owner, bool *has_pages);
void region_span_give(void *span);
/* Releases the pages of spans that no one has needed for a second, some of them: at a frame's end, which is now. True: there are
   more. */
bool region_span_purge(uint64_t now_ns);
/* The same, to be called now and then, where no frames end: after some time. Cost: mostly a load and a compare. */
void region_span_later(uint64_t now_ns);
/* Releases those of all free spans but so many, at once. */
void region_span_keep(uint32_t most);
/* Bytes of free spans that have their pages. */
size_t region_span_kept(void);
/* Bytes of spans committed and not purged, both tiers and free ones. */
size_t region_span_committed(void);

#endif
