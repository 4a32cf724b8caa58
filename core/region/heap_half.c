/* The half that jemalloc has: its addresses grow by bumping an index, freed ranges go to a small sorted table. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/region/half.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif

struct free_range {
	uintptr_t start;
	size_t bytes;
};

#define FREE_RANGES_MAX 1024
static struct {
	struct base_lock lock;
	struct half half;
	uintptr_t next, end;
	uint32_t free_count;
	struct free_range free[FREE_RANGES_MAX]; /* sorted by start, never adjacent */
} heap_half;

/* Chunks of the heap half for those who must not wait for its lock, taken by one exchange: the first one's number << 32 | how
   many, and whether they are not mapped. Whoever has the lock sees that they do not run out. What comes back is like the rest. */
#define RESERVE_UNMAPPED (1u << 31)
#define RESERVE_CHUNKS 256u
#define RESERVE_SHARE 64u /* at most this part of the half */
static _Atomic uint64_t reserve;
static uint32_t reserve_chunks; /* when it is full */

void heap_half_begin(uintptr_t start, size_t bytes, bool unreserved)
{
	size_t chunks = bytes >> REGION_CHUNK_BITS;
	reserve_chunks = chunks / RESERVE_SHARE < RESERVE_CHUNKS ? (uint32_t)(chunks / RESERVE_SHARE) : RESERVE_CHUNKS;
	reserve = unreserved ? reserve_chunks | RESERVE_UNMAPPED : reserve_chunks;
	heap_half.half = (struct half){unreserved, bytes};
	heap_half.next = start + ((size_t)reserve_chunks << REGION_CHUNK_BITS);
	heap_half.end = start + bytes;
	region.heap_end = bytes;
}

/* Lock held. Takes bytes from the front of a free range that has so many. */
static uintptr_t take_front(uint32_t i, size_t bytes)
{
	struct free_range *range = &heap_half.free[i];
	uintptr_t start = range->start;
	range->start += bytes;
	range->bytes -= bytes;
	if (!range->bytes) {
		heap_half.free_count--;
		for (uint32_t j = i; j < heap_half.free_count; j++)
			heap_half.free[j] = heap_half.free[j + 1];
	}
	return start;
}

/* Lock held. Takes bytes from the first free range that fits, or 0. */
static uintptr_t take_free_range(size_t bytes)
{
	for (uint32_t i = 0; i < heap_half.free_count; i++)
		if (heap_half.free[i].bytes >= bytes)
			return take_front(i, bytes);
	return 0;
}

/* Lock held. A full table forgets the range: addresses are lost, memory is not. */
static void put_free_range(uintptr_t start, size_t bytes)
{
	uint32_t at = 0;
	while (at < heap_half.free_count && heap_half.free[at].start < start)
		at++;
	struct free_range *before = at ? &heap_half.free[at - 1] : NULL;
	struct free_range *after = at < heap_half.free_count ? &heap_half.free[at] : NULL;
	bool joins_before = before && before->start + before->bytes == start;
	bool joins_after = after && start + bytes == after->start;
	if (joins_before) {
		before->bytes += bytes;
		if (joins_after) {
			before->bytes += after->bytes;
			heap_half.free_count--;
			for (uint32_t j = at; j < heap_half.free_count; j++)
				heap_half.free[j] = heap_half.free[j + 1];
		}
	} else if (joins_after) {
		after->start = start;
		after->bytes += bytes;
	} else if (heap_half.free_count < FREE_RANGES_MAX) {
		for (uint32_t j = heap_half.free_count; j > at; j--)
			heap_half.free[j] = heap_half.free[j - 1];
		heap_half.free[at] = (struct free_range){start, bytes};
		heap_half.free_count++;
	}
}

static uint32_t reserve_count(uint64_t word)
{
	return (uint32_t)word & ~RESERVE_UNMAPPED;
}

static uintptr_t reserve_start(uint64_t word)
{
	return region.base + (uintptr_t)((word >> 32) << REGION_CHUNK_BITS);
}

/* No lock held. */
static struct taken take_reserve(size_t bytes)
{
	uint64_t chunks = bytes >> REGION_CHUNK_BITS, now = atomic_load_explicit(&reserve, memory_order_relaxed);
	while (chunks <= reserve_count(now))
		if (atomic_compare_exchange_weak_explicit(&reserve, &now, now + (chunks << 32) - chunks,
							  memory_order_relaxed, memory_order_relaxed))
			return (struct taken){reserve_start(now), now & RESERVE_UNMAPPED};
	return (struct taken){0, false};
}

/* Lock held. */
static void put_reserve(uint64_t fresh)
{
	uint64_t left = atomic_exchange_explicit(&reserve, fresh, memory_order_relaxed);
	if (reserve_count(left))
		put_free_range(reserve_start(left), (size_t)reserve_count(left) << REGION_CHUNK_BITS);
}

/* Lock held. */
static void fill_reserve(void)
{
	size_t bytes = (size_t)reserve_chunks << REGION_CHUNK_BITS;
	if (reserve_count(atomic_load_explicit(&reserve, memory_order_relaxed)) > reserve_chunks / 2 ||
	    bytes > heap_half.end - heap_half.next)
		return;
	uint64_t fresh = (uint64_t)((heap_half.next - region.base) >> REGION_CHUNK_BITS) << 32 | reserve_chunks;
	heap_half.next += bytes;
	put_reserve(heap_half.half.unreserved ? fresh | RESERVE_UNMAPPED : fresh);
}

/* No lock held. Whole chunks. */
static struct taken take_addresses(size_t bytes)
{
	if (!base_lock(&heap_half.lock))
		return take_reserve(bytes);
	fill_reserve();
	struct taken taken = {take_free_range(bytes), heap_half.half.unreserved};
	if (!taken.start) {
		uintptr_t next =
			bytes >= REGION_HUGE_BYTES ? round_up(heap_half.next, REGION_HUGE_BYTES) : heap_half.next;
		if (next <= heap_half.end && bytes <= heap_half.end - next) {
			if (next > heap_half.next)
				put_free_range(heap_half.next, next - heap_half.next);
			taken.start = next;
			heap_half.next = next + bytes;
		}
	}
	base_unlock(&heap_half.lock);
	return taken;
}

/* Somebody else is just before `end`, where addresses have never been taken: he is left behind, however large. */
static void skip_others(uintptr_t end, size_t bytes)
{
	if (!base_lock(&heap_half.lock))
		return;
	if (heap_half.next == end)
		heap_half.next = bytes < heap_half.end - end ? end + bytes : heap_half.end;
	base_unlock(&heap_half.lock);
}

/* They could not be mapped. */
static void give_addresses_back(uintptr_t start, size_t bytes)
{
	if (base_lock(&heap_half.lock)) {
		put_free_range(start, bytes);
		base_unlock(&heap_half.lock);
	}
}

void *region_heap_map(size_t bytes, int prot)
{
	size_t rounded = round_up(bytes, REGION_CHUNK_BYTES);
	if (rounded < bytes)
		return NULL;
	for (size_t beyond = rounded;; beyond *= 2) {
		struct taken taken = take_addresses(rounded);
		if (!taken.start)
			return NULL;
		int error = half_map(taken, rounded, prot);
		if (error == -ENOMEM && span_half_unmap_free())
			error = half_map(taken, rounded, prot);
		if (!error) {
			half_mark(taken.start, rounded, REGION_HEAP);
			return (void *)taken.start;
		}
		if (error != -EEXIST) {
			give_addresses_back(taken.start, rounded);
			return NULL;
		}
		skip_others(taken.start + rounded, beyond);
	}
}

static bool map_nothing(void *start, size_t bytes)
{
	return mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Reads zero from then on, where it can be read at all. False: it is as it was. */
static bool give_up_pages(void *start, size_t bytes)
{
	if (map_nothing(start, bytes))
		return true;
	/* Where memory is locked the new mapping counts before the old one is gone. */
	if (errno == EAGAIN && !munlock(start, bytes) && map_nothing(start, bytes))
		return true;
	/* Where no mapping more is allowed this one's pages go all the same. */
	return !madvise(start, bytes, MADV_DONTNEED);
}

void region_heap_unmap(void *start, size_t bytes)
{
	/* jemalloc trims alignment slack in pages; only whole chunks come back as addresses. */
	int saved = errno;
	bool given_up = give_up_pages(start, bytes);
	errno = saved;
	if (!given_up)
		return; /* who gets them next believes that they are zero */
	madvise(start, bytes, MADV_DONTDUMP);
	uintptr_t first = round_up((uintptr_t)start, REGION_CHUNK_BYTES);
	uintptr_t last = ((uintptr_t)start + bytes) & ~(REGION_CHUNK_BYTES - 1);
	if (first >= last)
		return;
	half_mark(first, last - first, REGION_NONE);
	if (base_lock(&heap_half.lock)) {
		if (heap_half.half.unreserved)
			munmap((void *)first, last - first);
		put_free_range(first, last - first);
		base_unlock(&heap_half.lock);
	}
}

/* Lock held. Takes the addresses from `start` on, if they are free. */
static bool take_at(uintptr_t start, size_t bytes)
{
	if (start == heap_half.next) {
		if (bytes > heap_half.end - start)
			return false;
		heap_half.next += bytes;
		return true;
	}
	for (uint32_t i = 0; i < heap_half.free_count && heap_half.free[i].start <= start; i++)
		if (heap_half.free[i].start == start && heap_half.free[i].bytes >= bytes)
			return take_front(i, bytes);
	return false;
}

bool region_heap_resize(void *start, size_t bytes, size_t new_bytes)
{
	uintptr_t end = (uintptr_t)start + bytes;
	if (new_bytes <= bytes) {
		if (new_bytes < bytes)
			region_heap_unmap((char *)start + new_bytes, bytes - new_bytes);
		return true;
	}
	if (!base_lock(&heap_half.lock))
		return false;
	bool is_free = take_at(end, new_bytes - bytes);
	struct taken taken = {end, heap_half.half.unreserved};
	base_unlock(&heap_half.lock);
	if (!is_free)
		return false;
	int error = half_map(taken, new_bytes - bytes, PROT_READ | PROT_WRITE);
	if (error == -ENOMEM)
		give_addresses_back(end, new_bytes - bytes);
	if (error)
		return false;
	half_mark(end, new_bytes - bytes, REGION_HEAP);
	return true;
}

/* What the program has made of some of its pages (mprotect) does not matter. */
static void copy_back(char *from, char *moved, size_t bytes)
{
	mprotect(from, bytes, PROT_READ | PROT_WRITE);
	mprotect(moved, bytes, PROT_READ);
	memcpy(from, moved, bytes);
}

/* Nobody else may find a hole in the region. So the old range stays mapped, and the pages go by way of an address that the kernel
   chooses: a move to a range at once unmaps what is there, and finds only then that the pages are of several mappings. There the
   mapping gets all its `room`, too, where nothing is lost if it cannot: what grows by itself later is a mapping of its own, and
   does not move with it. Returns 0, or the error for which they are where they were. */
static int move_mapping(char *from, size_t bytes, char *to, size_t room)
{
	/* glibc's mremap hands on no address here before 2.41, but what a register holds. */
	long first = syscall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	if (first == -1)
		return errno;
	void *between = (void *)first;
	size_t mapped = bytes;
	if (room > bytes) {
		void *grown = mremap(between, bytes, room, MREMAP_MAYMOVE);
		if (grown != MAP_FAILED) {
			between = grown;
			mapped = room;
		}
	}
	if (mapped == room && mremap(between, room, room, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED)
		return 0;
	copy_back(from, between, bytes);
	munmap(between, mapped);
	return ENOMEM;
}

/* Whether some of it is locked. The kernel would unlock the rest of its mapping, which is others', and count it twice. */
static bool is_locked(void *start, size_t bytes)
{
	/* glibc's msync is a cancellation point. */
	return syscall(SYS_msync, start, bytes, MS_INVALIDATE) && errno == EBUSY;
}

static bool move_pages(char *from, size_t bytes, char *to, size_t room)
{
	if (base_spares_calls() || is_locked(from, bytes))
		return false;
	/* The kernel moves pages of one mapping at a time, and does not tell where that ends: before `beyond`, the shortest that
	   was refused. */
	size_t done = 0, piece = bytes, beyond = bytes;
	while (done < bytes) {
		bool last = done + piece == bytes;
		int error = move_mapping(from + done, piece, to + done, last ? room - done : piece);
		if (!error) {
			done += piece;
			beyond -= piece;
		} else if (error == EFAULT && piece > PAGE_BYTES) {
			beyond = piece;
		} else {
			copy_back(from, to, done);
			return false;
		}
		if (beyond > PAGE_BYTES)
			piece = round_up(beyond / 2, PAGE_BYTES);
		else
			piece = beyond = bytes - done; /* another mapping */
	}
	/* Several mappings may be what the program has made of some pages, for as long as they were this block's. */
	mprotect(to, room, PROT_READ | PROT_WRITE);
	madvise(to, room, MADV_DOFORK);
	return true;
}

bool region_heap_move_pages(void *from, size_t bytes, void *to, size_t room)
{
	int saved = errno;
	bool moved = move_pages(from, bytes, to, room);
	errno = saved;
	return moved;
}

void *region_heap_move(void *start, size_t bytes, size_t new_bytes)
{
	void *to = region_heap_map(new_bytes, PROT_READ | PROT_WRITE);
	if (!to)
		return NULL;
	if (!region_heap_move_pages(start, bytes, to, new_bytes)) {
		region_heap_unmap(to, new_bytes);
		return NULL;
	}
	region_heap_unmap(start, bytes);
	return to;
}

/* Lock held. What nobody uses is mapped no longer. */
static void unreserve(void)
{
	put_reserve(RESERVE_UNMAPPED);
	for (uint32_t i = 0; i < heap_half.free_count; i++)
		munmap((void *)heap_half.free[i].start, heap_half.free[i].bytes);
	munmap((void *)heap_half.next, heap_half.end - heap_half.next);
	heap_half.half = half_unreserved();
}

void heap_half_limit(size_t more)
{
	if (!base_lock(&heap_half.lock))
		return;
	if (!heap_half.half.unreserved)
		unreserve();
	region.heap_end = half_end(&heap_half.half, heap_half.next - region.base, more);
	heap_half.end = region.base + region.heap_end;
	base_unlock(&heap_half.lock);
}
