/* The segment table: a ring indexed by the low bits of the id. */
#define _GNU_SOURCE
#include "core/segment.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/block.h"
#include "core/trace/writer.h"

struct segment_record *segment_table;
static _Atomic uint64_t next_lease = SEGMENT_LEASE; /* ids below are never used: 0 means none */

uint64_t segment_first_own;

void segment_child(void)
{
	segment_first_own = atomic_load(&next_lease);
}

int segment_init(void)
{
	void *memory = mmap(NULL, sizeof *segment_table * SEGMENT_TABLE, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	if (segment_table)
		munmap(segment_table, sizeof *segment_table * SEGMENT_TABLE);
	segment_table = memory;
	return 0;
}

uint64_t segment_lease(uint64_t *at, uint64_t *end)
{
	uint64_t first = atomic_fetch_add_explicit(&next_lease, SEGMENT_LEASE, memory_order_relaxed);
	if (unlikely(first + SEGMENT_LEASE > BLOCK_SEGMENT_MAX)) {
		/* Exhausted after years: the thread stays in its last segment for good. */
		trace_loss(TRACE_LOSS_SEGMENTS, 1);
		return *end ? *end - 1 : BLOCK_SEGMENT_MAX;
	}
	trace_add(&trace_header->segments_leased, SEGMENT_LEASE);
	*at = first + 1;
	*end = first + SEGMENT_LEASE;
	return first;
}

bool segment_was_leased(uint64_t id)
{
	return id && id < atomic_load_explicit(&next_lease, memory_order_relaxed);
}
