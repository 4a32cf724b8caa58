/*
 * The counters of the recording as the shim finds them: a slot has those of a site in a group of TRACE_GROUP_SITES, which it
 * is given at the first of these sites. Only the thread that has the slot writes to them.
 */
#ifndef FA_COUNTER_H
#define FA_COUNTER_H

#include "core/block.h"
#include "core/thread.h"
#include "core/trace/writer.h"

/* Where counters lie in the recording: what a block's header says of its site. Every record is in the one mapping. */
static always_inline struct trace_counter *counter_at(uint32_t place)
{
	return (struct trace_counter *)((char *)trace_header + (size_t)place * BLOCK_COUNTER_BYTES);
}

static always_inline uint32_t counter_place(const struct trace_counter *counter)
{
	return (uint32_t)((size_t)((const char *)counter - (const char *)trace_header) / BLOCK_COUNTER_BYTES);
}
static_assert(TRACE_MAX_BYTES / BLOCK_COUNTER_BYTES == BLOCK_COUNTER_MASK + 1,
	      "a header names every line of a recording");

/* The site of each counter, by its place: whoever frees a block of another thread asks for it, and does not take the counter's own
   line from that thread. */
extern uint16_t counter_sites[BLOCK_COUNTER_MASK + 1] own_data;

/* The site of a block that is in this recording's counts. */
static always_inline uint32_t block_site(const struct block *block)
{
	return counter_sites[block_counter(block)];
}

/* The same of what may be no block of ours, or one of another recording; 0: it says nothing. */
uint32_t block_site_doubted(const struct block *block);

/* Counters of `site` in this thread's slot; allocates the group at first use. Never NULL: site 0's when full. */
struct trace_counter *counter_of_slow(struct thread *thread, uint32_t site);
static always_inline struct trace_counter *counter_of(struct thread *thread, uint32_t site)
{
	struct trace_counter *group = thread->groups[site / TRACE_GROUP_SITES];
	return likely(group != NULL) ? &group[site % TRACE_GROUP_SITES] : counter_of_slow(thread, site);
}

/* In the child of a fork. */
void counter_child(void);

#endif
