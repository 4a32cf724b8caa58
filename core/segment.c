/* The segment table: a ring indexed by the low bits of the id. */
#define _GNU_SOURCE
#include "core/segment.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/block.h"
#include "core/trace/writer.h"

struct segment_record *segment_table;
_Atomic uint64_t segment_next_lease = SEGMENT_LEASE_MAX; /* ids below are in no lease */

uint64_t segment_first_own = SEGMENT_LEASE_MAX;

void segment_child(void)
{
	segment_first_own = atomic_load(&segment_next_lease);
}

int segment_init(void)
{
	void *memory = base_map(sizeof *segment_table * SEGMENT_TABLE);
	if (!memory)
		return -ENOMEM;
	if (segment_table)
		munmap(segment_table, sizeof *segment_table * SEGMENT_TABLE);
	segment_table = memory;
	return 0;
}

/* Most threads pass no marker: they are in one segment all their lives, and should take no page of the table. */
static uint32_t ids_after(uint32_t ids)
{
	if (!ids)
		return SEGMENT_LEASE_FIRST;
	return ids < SEGMENT_LEASE_MAX ? ids * 4 : SEGMENT_LEASE_MAX;
}

uint64_t segment_lease_more(struct segment_lease *lease)
{
	uint32_t ids = ids_after(lease->ids);
	uint64_t first = atomic_fetch_add_explicit(&segment_next_lease, ids, memory_order_relaxed);
	if (unlikely(first + ids > BLOCK_SEGMENT_MAX)) {
		/* Exhausted after years: the thread stays in its last segment for good. */
		trace_loss(TRACE_LOSS_SEGMENTS, 1);
		return lease->end ? lease->end - 1 : BLOCK_SEGMENT_MAX;
	}
	trace_add(&trace_header->segments_leased, ids);
	*lease = (struct segment_lease){first + 1, first + ids, ids};
	return first;
}
