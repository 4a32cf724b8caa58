/* Checks are packed, and unpacked. Only at misses. */
#include "core/path/run.h"

#include <string.h>

/* Which of `count` checks stands in place k of their last chunk: where they leave room some are repeated. */
static always_inline size_t check_at(size_t k, size_t count)
{
	size_t repeated = k < 2 || k - 2 >= count ? 0 : k - 2;
	return k < count ? k : repeated;
}

/* With the first `count` of `checks`. Returns a bit for each place that is of a frame pointer. */
static always_inline uint32_t chunk_fill(struct tree_chunk *chunk, struct checks checks, size_t count)
{
	uint32_t pointers = 0;
#pragma GCC unroll 4
	for (size_t k = 0; k < TREE_CHUNK; k++) {
		size_t from = check_at(k, count);
		pointers |= (uint32_t)(checks.offset[from] & WALK_POINTER) << k;
		chunk->offset[k] = checks_place(checks.offset[from]) - checks.from;
		chunk->value[k] = checks.value[from];
	}
	return pointers;
}

static size_t chunks_for(size_t checks)
{
	return (checks + TREE_CHUNK - 1) / TREE_CHUNK;
}

static size_t bit_bytes(size_t checks)
{
	return round_up((chunks_for(checks) + 1) / 2, TREE_UNIT);
}

size_t run_fill(struct tree_run *run, struct checks checks)
{
	/* They go into the run only if some are set: it may have no room for them. */
	uint8_t bits[WALK_CHECKS_MAX / 8 + TREE_UNIT];
	uint32_t any = 0;
	size_t chunks = chunks_for(checks.count);
	for (size_t i = 0; i < chunks; i++) {
		struct checks rest = checks_after(checks, i * TREE_CHUNK);
		uint32_t here = rest.count >= TREE_CHUNK ? chunk_fill(&run->chunk[i], rest, TREE_CHUNK)
							 : chunk_fill(&run->chunk[i], rest, rest.count);
		any |= here;
		bits[i / 2] = (uint8_t)(i % 2 ? bits[i / 2] | here << 4 : here);
	}
	run->units = (uint16_t)(chunks * sizeof(struct tree_chunk) / TREE_UNIT);
	run->has_pointers = any;
	size_t bytes = sizeof *run + run->units * TREE_UNIT;
	if (!any)
		return bytes;
	size_t used = (chunks + 1) / 2, in_all = bit_bytes(checks.count);
	uint8_t *into = run_pointer_bits(run);
	memcpy(into, bits, used);
	memset(into + used, 0, in_all - used); /* all of them: runs are compared by their bytes */
	return bytes + in_all;
}

size_t run_bytes(size_t checks)
{
	return sizeof(struct tree_run) + chunks_for(checks) * sizeof(struct tree_chunk) + bit_bytes(checks);
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
