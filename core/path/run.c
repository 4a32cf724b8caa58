/* Checks are packed, and unpacked. Only at misses. */
#include "core/path/run.h"

#include <string.h>

/* Which of `count` checks stands in place k of their last chunk: where they leave room some are repeated. */
static always_inline size_t check_at(size_t k, size_t count)
{
	size_t repeated = k < 2 || k - 2 >= count ? 0 : k - 2;
	return k < count ? k : repeated;
}

/* With the first `count` of `checks`. True: some are of frame pointers. */
static always_inline bool chunk_fill(struct tree_chunk *chunk, struct checks checks, size_t count)
{
	int32_t offsets = 0;
#pragma GCC unroll 4
	for (size_t k = 0; k < TREE_CHUNK; k++) {
		size_t from = check_at(k, count);
		offsets |= checks.offset[from];
		chunk->offset[k] = checks_place(checks.offset[from]) - checks.from;
		chunk->value[k] = checks.value[from];
	}
	return offsets & WALK_POINTER;
}

static size_t chunks_for(size_t checks)
{
	return (checks + TREE_CHUNK - 1) / TREE_CHUNK;
}

static size_t bit_units(size_t checks)
{
	return (checks + 8 * TREE_UNIT - 1) / (8 * TREE_UNIT);
}

size_t run_fill(struct tree_run *run, struct checks checks)
{
	struct tree_chunk *chunk = run->chunk;
	bool pointers = false;
	struct checks rest = checks;
	for (; rest.count >= TREE_CHUNK; rest = checks_after(rest, TREE_CHUNK))
		pointers |= chunk_fill(chunk++, rest, TREE_CHUNK);
	if (rest.count)
		pointers |= chunk_fill(chunk++, rest, rest.count);
	run->units = (uint16_t)((size_t)(chunk - run->chunk) * sizeof *chunk / TREE_UNIT);
	run->has_pointers = pointers;
	size_t bytes = sizeof *run + run->units * TREE_UNIT;
	if (!pointers)
		return bytes;
	uint8_t *bits = run_pointer_bits(run);
	size_t count = (size_t)(chunk - run->chunk) * TREE_CHUNK;
	memset(bits, 0, bit_units(count) * TREE_UNIT); /* all of them: runs are compared by their bytes */
	for (size_t i = 0; i < count; i++) {
		size_t k = i % TREE_CHUNK, first = i - k, from = first + check_at(k, checks.count - first);
		bits[i / 8] |= (uint8_t)((checks.offset[from] & WALK_POINTER) << i % 8);
	}
	return bytes + bit_units(count) * TREE_UNIT;
}

size_t run_bytes(size_t checks)
{
	return sizeof(struct tree_run) + chunks_for(checks) * sizeof(struct tree_chunk) + bit_units(checks) * TREE_UNIT;
}

size_t run_checks(const struct tree_run *run, int32_t by, int32_t *offset, uint64_t *value)
{
	const uint8_t *bits = run_pointer_bits(run);
	size_t count = 0, chunks = run_chunks(run);
	for (size_t i = 0; i < chunks; i++) {
		const struct tree_chunk *chunk = &run->chunk[i];
		for (size_t k = 0; k < TREE_CHUNK && (!k || chunk->offset[k] != chunk->offset[k < 2 ? 0 : k - 2]);
		     k++) {
			int32_t pointer = run->has_pointers && bits[count / 8] >> count % 8 & 1 ? WALK_POINTER : 0;
			offset[count] = (chunk->offset[k] + by) | pointer;
			value[count++] = chunk->value[k];
		}
	}
	return count;
}
