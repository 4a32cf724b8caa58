/* Where the region lies, what a limit of the address space, or of data, does to that, and how addresses in it become memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/region/half.h"

#define RESERVED_MAX (1ul << 40)
#define RESERVED_MIN (64ul << 20)
#define UNRESERVED_MIN (64ul << 30) /* where the limit is low: it may be raised */
#define LIBRARY_BYTES (96ul << 20) /* where we would take the most of what there is, we had better stand aside */
#define UNRESERVED_BELOW (8ul << 40) /* so far below what the kernel finds a place for */
#define EXACT_SHARE 32u /* of the limit: smaller blocks may take more addresses than they need */
#define EXACT_MIN (1ul << 20)
#define EXACT_LOCKED_MIN                                                                                               \
	(32ul << 20) /* where all that is mapped is filled: from where on glibc maps each block by itself */

struct region region = {.exact_min = SIZE_MAX};

size_t half_end(const struct half *half, size_t used, size_t more)
{
	size_t end = used < half->max && more < half->max - used ? used + more : half->max;
	return end > used ? end : used;
}

int half_map(struct taken taken, size_t bytes, int prot)
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

void half_mark(uintptr_t start, size_t bytes, enum region_owner owner)
{
	size_t first = (start - region.base) >> REGION_CHUNK_BITS;
	size_t last = (start + bytes - 1 - region.base) >> REGION_CHUNK_BITS;
	for (size_t i = first; i <= last; i++)
		region.owner[i] = (uint8_t)owner;
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

static void begin(uintptr_t base, size_t bytes, void *tables, bool unreserved)
{
	size_t chunks = bytes >> REGION_CHUNK_BITS;
	region.owner = (uint8_t *)tables;
	region.base = base;
	region.bytes = bytes;
	heap_half_begin(base, bytes / 2, unreserved);
	span_half_begin(base + bytes / 2, bytes / 2, (uint32_t *)((char *)tables + chunks), unreserved);
}

static bool begin_reserved(size_t bytes)
{
	/* Up to 2 MiB of slack align the base; the tables follow the blocks so that one mapping serves all. Without
	   MAP_NORESERVE: a request beyond the machine's memory is then refused as glibc's would be. */
	size_t tables = tables_bytes(bytes), total = bytes + REGION_HUGE_BYTES + tables;
	char *start = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		return false;
	uintptr_t base = round_up((uintptr_t)start, REGION_HUGE_BYTES);
	if (mprotect((char *)base + bytes, tables, PROT_READ | PROT_WRITE)) {
		munmap(start, total);
		return false;
	}
	madvise((void *)base, bytes, MADV_DONTDUMP);
	base_keep_small((char *)base + bytes, tables);
	begin(base, bytes, (char *)base + bytes, false);
	return true;
}

/* Far below where the kernel puts what has no place of its own, far from where it puts programs: hardly anybody comes there,
   and where somebody has come, half_map tells. */
static bool begin_unreserved(size_t bytes)
{
	size_t tables_length = tables_bytes(bytes);
	void *tables = base_map(tables_length);
	if (!tables)
		return false;
	struct taken first = {((uintptr_t)tables - UNRESERVED_BELOW - bytes) & ~(REGION_HUGE_BYTES - 1), true};
	if ((uintptr_t)tables < UNRESERVED_BELOW + bytes || half_map(first, REGION_CHUNK_BYTES, PROT_NONE)) {
		munmap(tables, tables_length);
		return false;
	}
	munmap((void *)first.start, REGION_CHUNK_BYTES);
	begin(first.start, bytes, tables, true);
	return true;
}

/* What the whole process has mapped by now, in the two ways that there are limits for: addresses, and private memory that may
   be written to. 0 when it cannot be told. */
struct mapped {
	size_t space_bytes, data_bytes;
};

static struct mapped mapped_by_now(void)
{
	enum { SPACE_FIELD = 0, DATA_FIELD = 5, FIELDS };
	char text[128];
	int fd = base_open("/proc/self/statm", O_RDONLY | O_CLOEXEC, 0);
	ssize_t bytes = fd < 0 ? -1 : base_read(fd, text, sizeof text);
	if (fd >= 0)
		base_close(fd);
	size_t pages[FIELDS] = {0};
	for (ssize_t i = 0, field = 0; i < bytes && field < FIELDS; i++)
		if (text[i] >= '0' && text[i] <= '9')
			pages[field] = pages[field] * 10 + (size_t)(text[i] - '0');
		else
			field++;
	return (struct mapped){pages[SPACE_FIELD] * 4096, pages[DATA_FIELD] * 4096};
}

/* SIZE_MAX: there is none. */
static size_t limit_of(__rlimit_resource_t resource)
{
	struct rlimit limit;
	return getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

bool region_leaves_half(void)
{
	if (!region_is_limited())
		return true;
	struct mapped mapped = mapped_by_now();
	return mapped.space_bytes < limit_of(RLIMIT_AS) / 2 && mapped.data_bytes < limit_of(RLIMIT_DATA) / 2;
}

int region_init(void)
{
	size_t space = limit_of(RLIMIT_AS), data = limit_of(RLIMIT_DATA), limit = space < data ? space : data;
	if (limit != SIZE_MAX) {
		struct mapped mapped = mapped_by_now();
		if (space < mapped.space_bytes + LIBRARY_BYTES || data < mapped.data_bytes + LIBRARY_BYTES)
			return -ENOMEM;
		note_limit(limit);
		return begin_unreserved(2 * half_within(limit)) ? 0 : -ENOMEM;
	}
	for (size_t bytes = RESERVED_MAX; bytes >= RESERVED_MIN; bytes >>= 1) /* valgrind allows no more than a part */
		if (begin_reserved(bytes))
			return 0;
	return -ENOMEM;
}

static struct base_lock limits_lock;
static bool tables_are_trimmed; /* what the halves may not use of them can only be read, for good */

static void make_read_only(void *start, size_t bytes)
{
	mprotect(start, bytes, PROT_READ);
}

static void unlock(void *start, size_t bytes)
{
	if (!munlock(start, bytes))
		madvise(start, bytes, MADV_DONTNEED);
}

static void each_page(const void *start, const void *end, void (*visit)(void *start, size_t bytes))
{
	uintptr_t from = round_up((uintptr_t)start, 4096), to = (uintptr_t)end & ~(uintptr_t)4095;
	if (from < to)
		visit((void *)from, to - from);
}

static void each_unused_table(void (*visit)(void *start, size_t bytes))
{
	size_t chunks = region.bytes >> REGION_CHUNK_BITS;
	size_t heap_end = region.heap_end >> REGION_CHUNK_BITS, span_end = region.span_end >> REGION_CHUNK_BITS;
	const uint32_t *links = (const uint32_t *)(region.owner + chunks);
	each_page(region.owner + heap_end, region.owner + chunks / 2, visit);
	each_page(region.owner + span_end, region.owner + chunks, visit);
	each_page(links + (span_end - chunks / 2), links + chunks / 2, visit);
}

/* Lock held. */
static void limit_halves(size_t limit)
{
	note_limit(limit);
	if (tables_are_trimmed) /* for all that the machine has: the halves may use no more */
		return;
	size_t more = half_within(limit);
	heap_half_limit(more);
	span_half_limit(more);
}

/* A signal handler inside one of ours may have interrupted a half at work, and one half alone is worse than none. */
static bool lock_limits(void)
{
	return region.bytes && !base_holds_locks() && base_lock(&limits_lock);
}

void region_limit(size_t limit)
{
	if ((limit == SIZE_MAX && !region_is_limited()) || !lock_limits())
		return;
	limit_halves(limit);
	base_unlock(&limits_lock);
}

void region_lock(size_t limit)
{
	if (!lock_limits())
		return;
	if (!region_is_limited())
		limit_halves(limit);
	if (region.exact_min > EXACT_LOCKED_MIN)
		region.exact_min = EXACT_LOCKED_MIN;
	tables_are_trimmed = true;
	each_unused_table(make_read_only);
	base_unlock(&limits_lock);
}

void region_locked(void)
{
	if (!lock_limits())
		return;
	if (tables_are_trimmed)
		each_unused_table(unlock);
	base_unlock(&limits_lock);
}
