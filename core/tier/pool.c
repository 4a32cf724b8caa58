/* Slabs of the pool and the heap tier. */
#include "core/tier/pool.h"

#include "core/account.h"
#include "core/slot.h"
#include "core/tier/heap.h"
#include "core/tier/remote.h"

/* A cache takes so many blocks at first, and so many bytes of them; it may grow to the others. */
#define CACHE_BLOCKS 64u
#define CACHE_BYTES 16384u
#define CACHE_BLOCKS_MOST 256u
#define CACHE_BYTES_MOST 65536u
#define LEFT_EMPTIES 16u /* slabs that have left: after so many all caches are emptied */

_Static_assert(THREAD_POOL_CLASSES >= 16 + 5 * 4, "classes up to 8 KiB");

uint8_t pool_classes[POOL_BYTES_MAX / 16 + 1];

void pool_init(void)
{
	for (size_t usable = 16; usable <= POOL_BYTES_MAX; usable += 16)
		pool_classes[usable / 16] = (uint8_t)pool_class(usable);
}

static void ring_push(struct pool_slab **head, struct pool_slab *slab)
{
	if (!*head) {
		slab->next = slab->previous = slab;
		*head = slab;
		return;
	}
	slab->next = *head;
	slab->previous = (*head)->previous;
	slab->previous->next = slab;
	(*head)->previous = slab;
	*head = slab;
}

static void ring_remove(struct pool_slab **head, struct pool_slab *slab)
{
	if (slab->next == slab) {
		*head = NULL;
		return;
	}
	slab->previous->next = slab->next;
	slab->next->previous = slab->previous;
	if (*head == slab)
		*head = slab->next;
}

/* Threads a stretch of never used room onto the free list: a page at a time, so that untouched pages stay untouched. */
static void extend(struct pool_slab *slab)
{
	slab->filled = (uint32_t)base_fill_ahead(slab, (size_t)(slab->bump - (uint8_t *)slab), slab->filled,
						 REGION_CHUNK_BYTES);
	uint8_t *end = (uint8_t *)slab + REGION_CHUNK_BYTES;
	uint32_t count = slab->stride < 2048 ? 4096 / slab->stride : 1;
	struct block *first = NULL, **link = &first;
	while (count-- && slab->stride <= (size_t)(end - slab->bump)) {
		struct block *block = (struct block *)slab->bump;
		slab->bump += slab->stride;
		block->state = 0; /* no block's start until it is handed out */
		*link = block;
		link = (struct block **)&block->birth;
	}
	*link = slab->free;
	slab->free = first;
}

static bool has_blocks(const struct pool_slab *slab)
{
	return slab->free || slab->stride <= (size_t)((const uint8_t *)slab + REGION_CHUNK_BYTES - slab->bump);
}

static uint32_t at_most(uint32_t class_index, size_t bytes, uint32_t blocks)
{
	size_t fit = bytes / pool_class_bytes(class_index);
	return fit > blocks ? blocks : (uint32_t)fit;
}

/* How many blocks a cache takes at most. */
static uint32_t cache_blocks(const struct thread_slabs *slabs, uint32_t class_index)
{
	return slabs->limit[class_index] ? slabs->limit[class_index] : at_most(class_index, CACHE_BYTES, CACHE_BLOCKS);
}

/* What a cache had no room for is needed again: it may take twice as many. */
static void cache_grow(struct thread_slabs *slabs, uint32_t class_index)
{
	uint32_t twice = 2 * cache_blocks(slabs, class_index),
		 most = at_most(class_index, CACHE_BYTES_MOST, CACHE_BLOCKS_MOST);
	slabs->limit[class_index] = (uint16_t)(twice < most ? twice : most);
}

/* A block of the slab that caches are filled from, which has some, or has room; the others go to its class's empty cache. */
static struct block *take(struct thread_slabs *slabs, struct pool_slab *slab)
{
	if (slab->free)
		cache_grow(slabs, slab->class_index);
	else
		extend(slab);
	struct thread_cache *cache = &slabs->cache[slab->class_index];
	struct block *first = slab->free;
	fa_assert(first);
	uint32_t made = (uint32_t)((size_t)(slab->bump - (uint8_t *)slab - POOL_SLAB_FIRST) / slab->stride);
	uint32_t count = made - (slab->born - slab->dead - 1); /* 1: it is current */
	cache->head = (struct block *)first->birth;
	cache->room = (int64_t)cache_blocks(slabs, slab->class_index) - (count - 1);
	slab->free = NULL;
	slab->born += count;
	return first;
}

/* Takes the place of the slab that caches are filled from, which is full. */
static struct block *take_from_now(struct thread_slabs *slabs, struct pool_slab *slab)
{
	struct pool_slab *full = slabs->current[slab->class_index], **ring = &slabs->others[slab->class_index];
	if (full) {
		full->dead++;
		ring_push(ring, full);
	}
	if (*ring)
		*ring = (*ring)->next;
	slabs->current[slab->class_index] = slab;
	slab->born++;
	return take(slabs, slab);
}

struct block *pool_take_slow(struct thread *thread, enum trace_tier tier, uint32_t class_index)
{
	struct thread_slabs *slabs = &thread->slabs[tier];
	if (remote_drain(thread) && slabs->cache[class_index].head)
		return pool_pop(&slabs->cache[class_index]);
	struct pool_slab *current = slabs->current[class_index];
	if (current && has_blocks(current))
		return take(slabs, current);
	/* A few steps around the ring find a slab with room, if there is one; each refill looks further. */
	struct pool_slab **ring = &slabs->others[class_index];
	for (int steps = 0; *ring && steps < 8; steps++) {
		struct pool_slab *slab = *ring;
		if (has_blocks(slab)) {
			ring_remove(ring, slab);
			return take_from_now(slabs, slab);
		}
		*ring = slab->next;
	}
	slot_reclaim_idle();
	bool has_pages;
	struct pool_slab *slab = region_span_take(REGION_POOL, &has_pages);
	if (!slab)
		return NULL;
	if (!has_pages && slabs->others[class_index]) { /* two have filled up: so will this one */
		base_fill(slab, REGION_CHUNK_BYTES);
		has_pages = true;
	}
	*slab = (struct pool_slab){.owner = thread,
				   .bump = (uint8_t *)slab + POOL_SLAB_FIRST,
				   .stride = (uint32_t)pool_class_bytes(class_index) + BLOCK_HEADER_BYTES,
				   .class_index = class_index,
				   .tier = tier,
				   .filled = has_pages ? REGION_CHUNK_BYTES : 0};
	account_footprint(tier, REGION_CHUNK_BYTES);
	heap_other_taken(REGION_CHUNK_BYTES);
	return take_from_now(slabs, slab);
}

static void slab_leaves(struct thread *thread, struct pool_slab *slab)
{
	ring_remove(&thread->slabs[slab->tier].others[slab->class_index], slab);
	account_footprint((enum trace_tier)slab->tier, -(int64_t)REGION_CHUNK_BYTES);
	region_span_give(slab);
}

void pool_slab_emptied(struct thread *thread, struct pool_slab *slab)
{
	slab_leaves(thread, slab);
	if (!(++thread->slabs_left % LEFT_EMPTIES)) /* the program gives back more than it takes */
		pool_empty_caches(thread);
}

static void give_chain(struct thread *thread, struct block *block)
{
	while (block) {
		struct block *following = (struct block *)block->birth;
		struct pool_slab *slab = pool_slab_of(block);
		block->birth = (uint64_t)slab->free;
		slab->free = block;
		if (++slab->dead == slab->born)
			slab_leaves(thread, slab);
		block = following;
	}
}

void pool_empty_caches(struct thread *thread)
{
	for (int tier = TRACE_TIER_POOL; tier < TRACE_TIERS; tier++)
		for (uint32_t class_index = 0; class_index < THREAD_POOL_CLASSES; class_index++) {
			struct thread_cache *cache = &thread->slabs[tier].cache[class_index];
			struct block *chain = cache->head;
			cache->head = NULL;
			thread->slabs[tier].limit[class_index] = 0;
			cache->room = cache_blocks(&thread->slabs[tier], class_index);
			give_chain(thread, chain);
		}
}
