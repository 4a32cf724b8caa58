/* A bump pointer. */
#include "core/tier/early.h"

#include <string.h>

#include "core/region/region.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"

static struct {
	struct base_lock lock;
	uint8_t *bump, *end; /* NULL: nothing was asked for yet */
} early;

static struct block *take(size_t bytes)
{
	if (!early.bump) {
		uint8_t *span = region_span_take(REGION_POOL);
		if (!span)
			return NULL;
		early.bump = span + POOL_SLAB_FIRST; /* as of a slab that nobody owns */
		early.end = span + REGION_CHUNK_BYTES;
	}
	if (bytes > (size_t)(early.end - early.bump))
		return NULL;
	struct block *room = (struct block *)early.bump;
	early.bump += bytes;
	return room;
}

void *early_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag, bool zeroed)
{
	if (heap_has_begun() || size > POOL_BYTES_MAX || align > BLOCK_HEADER_BYTES || !base_lock(&early.lock))
		return NULL;
	struct block *room = take(block_usable(size) + BLOCK_HEADER_BYTES);
	base_unlock(&early.lock);
	if (!room)
		return NULL;
	void *pointer = block_start(room, birth, tag | BLOCK_TIER(TRACE_TIER_POOL), size);
	return zeroed ? memset(pointer, 0, size) : pointer;
}
