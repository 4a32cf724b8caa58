/* Both halves grow by bumping an index; freed ranges of the heap half go to a small sorted table, freed spans to a
   last-in-first-out chain kept beside the spans (their own memory may be purged). */
#define _GNU_SOURCE
#include "core/region.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define RESERVED_MAX (1ul << 40)
#define RESERVED_MIN (64ul << 20)
#define UNRESERVED_MIN (64ul << 30)  /* where the limit is low: it may be raised */
#define LIBRARY_BYTES (96ul << 20)   /* where we would take the most of what there is, we had better stand aside */
#define UNRESERVED_BELOW (8ul << 40) /* so far below what the kernel finds a place for */
#define EXACT_SHARE 32u /* of the limit: smaller blocks may take more addresses than they need */
#define EXACT_MIN (1ul << 20)
#define HUGE_BYTES (2ul << 20)
#define HUGE_SPANS (uint32_t)(HUGE_BYTES >> REGION_CHUNK_BITS)
#define COMMIT_SPANS 16u   /* spans made accessible by one system call, */
#define SMALL_SPANS 512u   /* as long as there are no more than these: huge pages would be felt in what is resident */
#define USER_SPANS 64u     /* nor so many for each thread, which has slabs of some thirty sizes, most of them hardly used */
#define PURGE_AFTER 128u   /* spans given back: what nobody needed meanwhile goes to the system, also where no frame ends */
#define NO_SPAN UINT32_MAX
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif

struct region region = {.exact_min = SIZE_MAX};

struct free_range {
	uintptr_t start;
	size_t bytes;
};

#define FREE_RANGES_MAX 1024
static struct {
	struct base_lock lock;
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

static struct {
	struct base_lock lock;
	uintptr_t start;
	uint32_t taken, committed, limit; /* span indices: [0, taken) handed out once, [0, committed) accessible */
	struct chain {
		uint32_t head, count;
	} free, purged, unmapped;         /* free spans: with their pages, without, and not even mapped */
	uint32_t skipped;                 /* of `taken`: somebody else's mappings lie there */
	uint32_t free_low;                /* lowest free.count since the last purge */
	uint32_t given;                   /* since then */
	uint32_t *next;                   /* chain links, by span index */
} spans;

/* Lock held, in all that takes a chain. NO_SPAN: it is empty. */
static uint32_t chain_take(struct chain *chain)
{
	uint32_t index = chain->head;
	if (index != NO_SPAN) {
		chain->head = spans.next[index];
		chain->count--;
	}
	return index;
}

static void chain_put(struct chain *chain, uint32_t index)
{
	spans.next[index] = chain->head;
	chain->head = index;
	chain->count++;
}

static size_t half_max; /* what each half may use */

/* How far a half may be used, of which so much is in use. */
static size_t end_within(size_t used, size_t more)
{
	size_t end = used < half_max && more < half_max - used ? used + more : half_max;
	return end > used ? end : used;
}

/* From which size on a block is mapped by itself, exactly. */
static void note_limit(size_t limit)
{
	region.exact_min = limit / EXACT_SHARE > EXACT_MIN ? limit / EXACT_SHARE : EXACT_MIN;
}

/* What each half of an unreserved region may use within such a limit: what is given back leaves gaps. */
static size_t half_within(size_t limit)
{
	size_t half = UNRESERVED_MIN / 2;
	while (half < RESERVED_MAX / 2 && half / 4 < limit)
		half *= 2;
	return half;
}

static size_t tables_bytes(size_t bytes)
{
	size_t chunks = bytes >> REGION_CHUNK_BITS;
	return round_up(chunks + chunks / 2 * sizeof(uint32_t), 4096);
}

static void begin(uintptr_t base, size_t bytes, void *tables)
{
	size_t chunks = bytes >> REGION_CHUNK_BITS;
	region.owner = (uint8_t *)tables;
	spans.next = (uint32_t *)((char *)tables + chunks);
	reserve_chunks = chunks / 2 / RESERVE_SHARE < RESERVE_CHUNKS ? (uint32_t)(chunks / 2 / RESERVE_SHARE) : RESERVE_CHUNKS;
	reserve = reserve_chunks;
	heap_half.next = base + ((size_t)reserve_chunks << REGION_CHUNK_BITS);
	heap_half.end = base + bytes / 2;
	spans.start = base + bytes / 2;
	spans.limit = (uint32_t)(chunks / 2);
	spans.free.head = spans.purged.head = spans.unmapped.head = NO_SPAN;
	region.base = base;
	region.bytes = bytes;
	region.heap_end = half_max = bytes / 2;
	region.span_end = bytes;
}

static bool begin_reserved(size_t bytes)
{
	/* Up to 2 MiB of slack align the base; the tables follow the blocks so that one mapping serves all. Without
	   MAP_NORESERVE: a request beyond the machine's memory is then refused as glibc's would be. */
	size_t tables = tables_bytes(bytes), total = bytes + HUGE_BYTES + tables;
	char *start = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return false;
	uintptr_t base = round_up((uintptr_t)start, HUGE_BYTES);
	if (mprotect((char *)base + bytes, tables, PROT_READ | PROT_WRITE)) {
		munmap(start, total);
		return false;
	}
	madvise((void *)base, bytes, MADV_DONTDUMP);
	begin(base, bytes, (char *)base + bytes);
	return true;
}

/* Addresses for somebody's use. */
struct taken {
	uintptr_t start; /* 0: there are none */
	bool unmapped;   /* else they are reserved */
};

/* -ENOMEM, or -EEXIST: somebody else has a mapping there. Leaves errno alone. */
static int map_taken(struct taken taken, size_t bytes, int prot)
{
	int saved = errno, error = 0;
	void *start = (void *)taken.start;
	if (taken.unmapped) {
		void *mapped = mmap(start, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (mapped == MAP_FAILED) {
			error = errno == EEXIST ? -EEXIST : -ENOMEM;
		} else if (mapped != start) { /* before Linux 4.17 the address is no more than a wish */
			munmap(mapped, bytes);
			error = -EEXIST;
		}
	} else if (prot != PROT_NONE && mprotect(start, bytes, prot)) {
		error = -ENOMEM;
	} else {
		madvise(start, bytes, MADV_DODUMP);
	}
	errno = saved;
	return error;
}

/* Far below where the kernel puts what has no place of its own, far from where it puts programs: hardly anybody comes there,
   and where somebody has come, map_taken tells. */
static bool begin_unreserved(size_t bytes)
{
	size_t tables_length = tables_bytes(bytes);
	void *tables = mmap(NULL, tables_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (tables == MAP_FAILED)
		return false;
	struct taken first = {((uintptr_t)tables - UNRESERVED_BELOW - bytes) & ~(HUGE_BYTES - 1), true};
	if ((uintptr_t)tables < UNRESERVED_BELOW + bytes || map_taken(first, REGION_CHUNK_BYTES, PROT_NONE)) {
		munmap(tables, tables_length);
		return false;
	}
	munmap((void *)first.start, REGION_CHUNK_BYTES);
	begin(first.start, bytes, tables);
	reserve |= RESERVE_UNMAPPED;
	region.unreserved = true;
	return true;
}

/* Of address space, by the whole process; 0 when it cannot be told. */
static size_t mapped_bytes(void)
{
	char text[64];
	int fd = base_open("/proc/self/statm", O_RDONLY | O_CLOEXEC, 0);
	ssize_t bytes = fd < 0 ? -1 : base_read(fd, text, sizeof text - 1);
	if (fd >= 0)
		base_close(fd);
	size_t pages = 0;
	for (ssize_t i = 0; i < bytes && text[i] >= '0' && text[i] <= '9'; i++)
		pages = pages * 10 + (size_t)(text[i] - '0');
	return pages * 4096;
}

int region_init(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
		if (limit.rlim_cur < mapped_bytes() + LIBRARY_BYTES)
			return -ENOMEM;
		note_limit(limit.rlim_cur);
		return begin_unreserved(2 * half_within(limit.rlim_cur)) ? 0 : -ENOMEM;
	}
	for (size_t bytes = RESERVED_MAX; bytes >= RESERVED_MIN; bytes >>= 1) /* valgrind allows no more than a part */
		if (begin_reserved(bytes))
			return 0;
	return -ENOMEM;
}

static void mark(uintptr_t start, size_t bytes, enum region_owner owner)
{
	size_t first = (start - region.base) >> REGION_CHUNK_BITS;
	size_t last = (start + bytes - 1 - region.base) >> REGION_CHUNK_BITS;
	for (size_t i = first; i <= last; i++)
		region.owner[i] = (uint8_t)owner;
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
		if (atomic_compare_exchange_weak_explicit(&reserve, &now, now + (chunks << 32) - chunks, memory_order_relaxed,
		                                          memory_order_relaxed))
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
	put_reserve(region.unreserved ? fresh | RESERVE_UNMAPPED : fresh);
}

/* No lock held. Whole chunks. */
static struct taken take_addresses(size_t bytes)
{
	if (!base_lock(&heap_half.lock))
		return take_reserve(bytes);
	fill_reserve();
	struct taken taken = {take_free_range(bytes), region.unreserved};
	if (!taken.start) {
		uintptr_t next = bytes >= HUGE_BYTES ? round_up(heap_half.next, HUGE_BYTES) : heap_half.next;
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

static void *span_at(uint32_t index)
{
	return (void *)(spans.start + ((uintptr_t)index << REGION_CHUNK_BITS));
}

static void unmap_chain(struct chain *chain)
{
	for (uint32_t index; (index = chain_take(chain)) != NO_SPAN;) {
		mark((uintptr_t)span_at(index), REGION_CHUNK_BYTES, REGION_NONE);
		munmap(span_at(index), REGION_CHUNK_BYTES);
		chain_put(&spans.unmapped, index);
	}
}

/* A limit is reached. False: no span is free that is mapped. */
static bool unmap_free_spans(void)
{
	if (!region.unreserved || !base_lock(&spans.lock))
		return false;
	uint32_t before = spans.unmapped.count;
	unmap_chain(&spans.free);
	unmap_chain(&spans.purged);
	spans.free_low = 0;
	bool some = spans.unmapped.count != before;
	base_unlock(&spans.lock);
	return some;
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
		int error = map_taken(taken, rounded, prot);
		if (error == -ENOMEM && unmap_free_spans())
			error = map_taken(taken, rounded, prot);
		if (!error) {
			mark(taken.start, rounded, REGION_HEAP);
			return (void *)taken.start;
		}
		if (error != -EEXIST) {
			give_addresses_back(taken.start, rounded);
			return NULL;
		}
		skip_others(taken.start + rounded, beyond);
	}
}

void region_heap_unmap(void *start, size_t bytes)
{
	/* jemalloc trims alignment slack in pages; only whole chunks come back as addresses. */
	if (mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED &&
	    madvise(start, bytes, MADV_DONTNEED)) /* where no mapping more is allowed this one's pages go all the same */
		return; /* who gets them next believes that they are zero */
	madvise(start, bytes, MADV_DONTDUMP);
	uintptr_t first = round_up((uintptr_t)start, REGION_CHUNK_BYTES);
	uintptr_t last = ((uintptr_t)start + bytes) & ~(REGION_CHUNK_BYTES - 1);
	if (first >= last)
		return;
	mark(first, last - first, REGION_NONE);
	if (base_lock(&heap_half.lock)) {
		if (region.unreserved)
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
	struct taken taken = {end, region.unreserved};
	base_unlock(&heap_half.lock);
	if (!is_free)
		return false;
	int error = map_taken(taken, new_bytes - bytes, PROT_READ | PROT_WRITE);
	if (error == -ENOMEM)
		give_addresses_back(end, new_bytes - bytes);
	if (error)
		return false;
	mark(end, new_bytes - bytes, REGION_HEAP);
	return true;
}

void *region_heap_move(void *start, size_t bytes, size_t new_bytes)
{
	void *to = region_heap_map(new_bytes, PROT_READ | PROT_WRITE);
	if (!to)
		return NULL;
	/* The old range stays mapped meanwhile: nobody else may find a hole in the region. */
	if (mremap(start, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == MAP_FAILED) {
		region_heap_unmap(to, new_bytes);
		return NULL;
	}
	region_heap_unmap(start, bytes);
	return to;
}

static _Atomic uint32_t span_users;

void region_span_users(uint32_t users)
{
	atomic_store_explicit(&span_users, users, memory_order_relaxed);
}

/* Lock held. */
static int map_spans(uint32_t index, uint32_t count)
{
	return map_taken((struct taken){(uintptr_t)span_at(index), region.unreserved}, (size_t)count << REGION_CHUNK_BITS,
	                 PROT_READ | PROT_WRITE);
}

/* Lock held. One that was given back and has been unmapped since, or NO_SPAN. */
static uint32_t take_unmapped(void)
{
	for (uint32_t index; (index = chain_take(&spans.unmapped)) != NO_SPAN; spans.skipped++) {
		int error = map_spans(index, 1);
		if (!error)
			return index;
		if (error == -ENOMEM) {
			chain_put(&spans.unmapped, index);
			break;
		}
	}
	return NO_SPAN;
}

/* Lock held. Maps the spans that come next, one at least; where nothing more can be had, none. */
static void commit_spans(void)
{
	uint64_t users = atomic_load_explicit(&span_users, memory_order_relaxed);
	bool huge = spans.committed >= SMALL_SPANS && spans.committed >= users * USER_SPANS;
	uint32_t count = huge ? HUGE_SPANS - spans.committed % HUGE_SPANS : COMMIT_SPANS;
	for (uint32_t beyond = 1; spans.committed < spans.limit;) {
		if (count > spans.limit - spans.committed)
			count = spans.limit - spans.committed;
		int error = map_spans(spans.committed, count);
		if (!error) {
			if (huge) /* what a program touches every frame then needs few entries of the TLB */
				madvise(span_at(spans.committed), (size_t)count << REGION_CHUNK_BITS, MADV_HUGEPAGE);
			spans.committed += count;
			return;
		}
		if (count > 1) {
			count = 1;
		} else if (error == -EEXIST) {
			uint32_t skipped = spans.limit - spans.committed < beyond ? spans.limit - spans.committed : beyond;
			spans.taken = spans.committed += skipped;
			spans.skipped += skipped;
			beyond *= 2;
		} else {
			return;
		}
	}
}

void *region_span_take(enum region_owner owner)
{
	if (!base_lock(&spans.lock))
		return NULL;
	uint32_t index = chain_take(&spans.free);
	if (index != NO_SPAN) {
		if (spans.free.count < spans.free_low)
			spans.free_low = spans.free.count;
	} else if ((index = chain_take(&spans.purged)) == NO_SPAN && (index = take_unmapped()) == NO_SPAN) {
		if (spans.taken == spans.committed)
			commit_spans();
		if (spans.taken < spans.committed)
			index = spans.taken++;
	}
	base_unlock(&spans.lock);
	if (index == NO_SPAN)
		return NULL;
	mark((uintptr_t)span_at(index), REGION_CHUNK_BYTES, owner);
	return span_at(index);
}

void region_span_give(void *span)
{
	uint32_t index = (uint32_t)(((uintptr_t)span - spans.start) >> REGION_CHUNK_BITS);
	/* The chunk stays readable, so a stale pointer into it is still judged by its header. */
	if (!base_lock(&spans.lock)) {
		madvise(span, REGION_CHUNK_BYTES, MADV_DONTNEED); /* its addresses are lost, its memory is not */
		return;
	}
	chain_put(&spans.free, index);
	bool due = ++spans.given >= PURGE_AFTER;
	base_unlock(&spans.lock);
	if (unlikely(due))
		region_span_purge();
}

void region_span_purge(void)
{
	if (!base_lock(&spans.lock))
		return;
	uint32_t idle = spans.free_low;
	for (uint32_t index; idle-- && (index = chain_take(&spans.free)) != NO_SPAN;) {
		madvise(span_at(index), REGION_CHUNK_BYTES, MADV_DONTNEED);
		chain_put(&spans.purged, index);
	}
	spans.free_low = spans.free.count;
	spans.given = 0;
	base_unlock(&spans.lock);
}

size_t region_span_committed(void)
{
	return (size_t)(spans.taken - spans.skipped - spans.purged.count - spans.unmapped.count) << REGION_CHUNK_BITS;
}

/* Both locks held. What nobody uses is mapped no longer. */
static void unreserve(void)
{
	put_reserve(RESERVE_UNMAPPED);
	for (uint32_t i = 0; i < heap_half.free_count; i++)
		munmap((void *)heap_half.free[i].start, heap_half.free[i].bytes);
	munmap((void *)heap_half.next, heap_half.end - heap_half.next);
	munmap(span_at(spans.committed), (size_t)(spans.limit - spans.committed) << REGION_CHUNK_BITS);
	region.unreserved = true;
	/* The kernel now puts others where the region was, from its end downwards: that part is the region's no more. */
	half_max = region.bytes / 4;
}

void region_limit(size_t limit)
{
	if (!region.bytes || (limit == SIZE_MAX && !region.unreserved) || !base_lock(&heap_half.lock))
		return;
	if (base_lock(&spans.lock)) {
		if (!region.unreserved)
			unreserve();
		size_t half = region.bytes / 2, more = half_within(limit);
		size_t heap_used = heap_half.next - region.base, span_used = (size_t)spans.committed << REGION_CHUNK_BITS;
		region.heap_end = end_within(heap_used, more);
		region.span_end = half + end_within(span_used, more);
		heap_half.end = region.base + region.heap_end;
		spans.limit = (uint32_t)((region.span_end - half) >> REGION_CHUNK_BITS);
		note_limit(limit);
		base_unlock(&spans.lock);
	}
	base_unlock(&heap_half.lock);
}
