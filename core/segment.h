/*
 * Segments: the longest runs of one thread between two markers (DESIGN §2). Ids are leased to threads in blocks, so
 * the fast path shares no counter; a bounded table resolves an id to what the checks need to know.
 *
 * Invariant: an id is never given out twice. A table entry answers for exactly one id (its `check` names it); an id
 * whose entry was overwritten is too old to resolve: its block's lifetime is a lower bound, and counted as clamped.
 */
#ifndef FA_SEGMENT_H
#define FA_SEGMENT_H

#include "core/base.h"

#define SEGMENT_LEASE_FIRST 4u /* one cache line of the table */
#define SEGMENT_LEASE_MAX 256u
#define SEGMENT_TABLE (1u << 18)
#define SEGMENT_NONE 0u
#define SEGMENT_UNTRACKED 1u /* of blocks that no thread has; no lease has these two */
#define SEGMENT_NO_THREAD UINT32_MAX
#define SEGMENT_OF_TASK (1u << 31)

struct segment_record {
	uint32_t check; /* id / SEGMENT_TABLE, low 32 bits; written last */
	uint32_t thread; /* record index of the thread it ran on; with SEGMENT_OF_TASK, as part of a task */
	uint32_t frame; /* number of the frame it is part of, from 1; 0: outside every frame. Of a task: its id */
	uint32_t awaits; /* awaits passed by that thread, or task, when it began */
};

int segment_init(void);

/* Ids that one thread may use: from `next` up to `end`. All zero: it has had none. */
struct segment_lease {
	uint64_t next, end;
	uint32_t
		ids; /* that it was given last: each lease is four times as long as the one before, up to SEGMENT_LEASE_MAX */
};

/* The next id; leases anew when what it has is used up. */
uint64_t segment_lease_more(struct segment_lease *lease);
static always_inline uint64_t segment_next(struct segment_lease *lease)
{
	return likely(lease->next < lease->end) ? lease->next++ : segment_lease_more(lease);
}

/* Publishes what `id` stands for. */
extern struct segment_record *segment_table own_data;
static always_inline void segment_publish(uint64_t id, uint32_t thread, uint32_t frame, uint32_t awaits)
{
	struct segment_record *record = &segment_table[id % SEGMENT_TABLE];
	__atomic_store_n(&record->check, UINT32_MAX, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	record->thread = thread;
	record->frame = frame;
	record->awaits = awaits;
	__atomic_store_n(&record->check, (uint32_t)(id / SEGMENT_TABLE), __ATOMIC_RELEASE);
}

/* In the child of a fork that records on its own: ids given out so far are its parent's. Inherited is what no thread of this
   recording has, untracked blocks, too. */
void segment_child(void);
extern uint64_t segment_first_own;
static always_inline bool segment_is_inherited(uint64_t id)
{
	return id < segment_first_own;
}

/* Whether the id may have been given out: tells a header from what else came to lie in its place. */
extern _Atomic uint64_t segment_next_lease own_data;
static always_inline bool segment_was_leased(uint64_t id)
{
	return id != SEGMENT_NONE && id < atomic_load_explicit(&segment_next_lease, memory_order_relaxed);
}

/* Index of the thread's record. A segment that began outside tasks may say that it is one's: after years all share the last id. */
static inline uint32_t segment_thread(const struct segment_record *record)
{
	return record->thread & ~SEGMENT_OF_TASK;
}

/* False: the id is older than the table. */
static inline bool segment_resolve(uint64_t id, struct segment_record *out)
{
	const struct segment_record *record = &segment_table[id % SEGMENT_TABLE];
	uint32_t check = __atomic_load_n(&record->check, __ATOMIC_ACQUIRE);
	*out = *record;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return check == (uint32_t)(id / SEGMENT_TABLE) && __atomic_load_n(&record->check, __ATOMIC_RELAXED) == check;
}

#endif
