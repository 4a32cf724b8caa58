/* The segment table: a ring indexed by the low bits of the id. */
#define _GNU_SOURCE
#include "core/segment.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/block.h"
#include "core/trace/writer.h"

static struct segment_record *table;
static _Atomic uint64_t next_lease = SEGMENT_LEASE; /* ids below are never used: 0 means none */

uint64_t segment_first_own;

void segment_child(void)
{
	segment_first_own = atomic_load(&next_lease);
}

int segment_init(void)
{
	void *memory = mmap(NULL, sizeof *table * SEGMENT_TABLE, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	if (table)
		munmap(table, sizeof *table * SEGMENT_TABLE);
	table = memory;
	return 0;
}

uint64_t segment_next(uint64_t *next, uint64_t *end)
{
	if (likely(*next < *end))
		return (*next)++;
	uint64_t first = atomic_fetch_add_explicit(&next_lease, SEGMENT_LEASE, memory_order_relaxed);
	if (unlikely(first + SEGMENT_LEASE > BLOCK_SEGMENT_MAX)) {
		/* Exhausted after years: the thread stays in its last segment for good. */
		trace_loss(TRACE_LOSS_SEGMENTS, 1);
		return *end ? *end - 1 : BLOCK_SEGMENT_MAX;
	}
	trace_add(&trace_header->segments_leased, SEGMENT_LEASE);
	*next = first + 1;
	*end = first + SEGMENT_LEASE;
	return first;
}

void segment_publish(uint64_t id, uint32_t thread, uint32_t frame, uint32_t awaits)
{
	struct segment_record *record = &table[id % SEGMENT_TABLE];
	__atomic_store_n(&record->check, UINT32_MAX, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	record->thread = thread;
	record->frame = frame;
	record->awaits = awaits;
	__atomic_store_n(&record->check, (uint32_t)(id / SEGMENT_TABLE), __ATOMIC_RELEASE);
}

bool segment_was_leased(uint64_t id)
{
	return id && id < atomic_load_explicit(&next_lease, memory_order_relaxed);
}

bool segment_resolve(uint64_t id, struct segment_record *out)
{
	const struct segment_record *record = &table[id % SEGMENT_TABLE];
	uint32_t check = __atomic_load_n(&record->check, __ATOMIC_ACQUIRE);
	*out = *record;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return check == (uint32_t)(id / SEGMENT_TABLE) && __atomic_load_n(&record->check, __ATOMIC_RELAXED) == check;
}
