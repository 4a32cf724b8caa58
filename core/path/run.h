/*
 * How a run of the tree holds its checks: four to a chunk, which of them are of frame pointers by a bit each behind the last
 * chunk, and in the places that are left over some once more. For those who change the tree; its readers have tree.h.
 */
#ifndef FA_PATH_RUN_H
#define FA_PATH_RUN_H

#include "core/path/tree.h"

/* Checks one after the other, as a walk has them. */
struct checks {
	const int32_t *offset;
	const uint64_t *value;
	size_t count;
	int32_t from; /* what the offsets count from */
};

static inline struct checks checks_after(struct checks all, size_t first)
{
	return (struct checks){all.offset + first, all.value + first, all.count - first, all.from};
}

static inline struct checks checks_before(struct checks all, size_t end)
{
	return (struct checks){all.offset, all.value, end, all.from};
}

/* An offset without what it says of its kind. */
static inline int32_t checks_place(int32_t offset)
{
	return offset & ~(int32_t)WALK_POINTER;
}

/* Behind the last chunk. */
static inline uint8_t *run_pointer_bits(const struct tree_run *run)
{
	return (uint8_t *)run->chunk + run->units * TREE_UNIT;
}

static inline size_t run_chunks(const struct tree_run *run)
{
	return run->units * TREE_UNIT / sizeof(struct tree_chunk);
}

/* Puts `checks` into `run`, which has the room. Returns the bytes that it takes now, each of them written. */
size_t run_fill(struct tree_run *run, struct checks checks);
/* That at most, for so many. The rest of a run never takes more than the run. */
size_t run_bytes(size_t checks);
/* Takes out what a run holds, without its tail, the offsets moved by `by`. Returns how many. */
size_t run_checks(const struct tree_run *run, int32_t by, int32_t *offset, uint64_t *value);

#endif
