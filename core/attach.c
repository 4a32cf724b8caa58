/* A hash table in parts, each with its own lock and buckets that double. Order of locks: part, then owner. */
#define _GNU_SOURCE
#include "core/attach.h"

#include <sys/mman.h>

#include "core/block.h"
#include "core/region/region.h"
#include "core/store.h"

#define PARTS 64u
#define FIRST_BUCKETS 512u

static struct part {
	struct base_lock lock;
	uint32_t count, buckets;
	struct attachment **bucket;
} parts[PARTS];

static struct store nodes = {.record_bytes = 64};
static_assert(sizeof(struct attachment) <= 64, "record of the store");

static uint64_t hash(uintptr_t address)
{
	return (address >> 4) * 0x9e3779b97f4a7c15u;
}

static struct part *part_of(uintptr_t address)
{
	return &parts[hash(address) >> 58];
}

static struct attachment **bucket_of(const struct part *part, uintptr_t address)
{
	return &part->bucket[hash(address) >> 20 & (part->buckets - 1)];
}

static void grow(struct part *part)
{
	struct part bigger = {.buckets = part->buckets ? part->buckets * 2 : FIRST_BUCKETS};
	size_t bytes = bigger.buckets * sizeof *bigger.bucket;
	bigger.bucket = base_map(bytes);
	if (!bigger.bucket)
		return;
	for (uint32_t i = 0; i < part->buckets; i++)
		for (struct attachment *node = part->bucket[i], *next; node; node = next) {
			struct attachment **bucket = bucket_of(&bigger, node->address);
			next = node->next;
			node->next = *bucket;
			*bucket = node;
		}
	if (part->bucket)
		munmap(part->bucket, part->buckets * sizeof *part->bucket);
	part->bucket = bigger.bucket;
	part->buckets = bigger.buckets;
}

static struct attachment **find(const struct part *part, uintptr_t address)
{
	if (!part->buckets)
		return NULL;
	struct attachment **link = bucket_of(part, address);
	while (*link && (*link)->address != address)
		link = &(*link)->next;
	return *link ? link : NULL;
}

/* The next attachment of the same address. */
static struct attachment **next_of(struct attachment **link)
{
	uintptr_t address = (*link)->address;
	do
		link = &(*link)->next;
	while (*link && (*link)->address != address);
	return *link ? link : NULL;
}

/* Whatever lies there can be read, but maybe not the page before it, which the program may have made a guard. */
static bool is_block(uintptr_t address)
{
	const struct block *block = block_of((void *)address);
	return !(address & 15) && region_owner_of(block) != REGION_NONE &&
	       (address & 0xff0 || base_page_readable((uintptr_t)block)) && block_is_live(block);
}

static bool join(struct attach_owner *owner, struct attachment *node)
{
	if (!base_lock(&owner->lock))
		return false;
	node->older = owner->newest;
	if (node->older)
		node->older->newer = node;
	owner->newest = node;
	base_unlock(&owner->lock);
	return true;
}

static bool leave(struct attach_owner *owner, struct attachment *node)
{
	if (!base_lock(&owner->lock))
		return false;
	if (node->newer)
		node->newer->older = node->older;
	else if (owner->newest == node)
		owner->newest = node->older;
	if (node->older)
		node->older->newer = node->newer;
	base_unlock(&owner->lock);
	return true;
}

bool attach_add(uintptr_t address, enum attach_kind kind, void *object, uint64_t mark)
{
	struct part *part = part_of(address);
	struct attachment *node = store_take(&nodes);
	if (!node)
		return false;
	node->address = address;
	node->object = object;
	node->mark = mark;
	node->kind = kind;
	if (!base_lock(&part->lock)) {
		store_give(&nodes, node);
		return false;
	}
	if (part->count >= part->buckets)
		grow(part);
	bool added = part->buckets && (kind != ATTACH_OWNED || join(object, node));
	if (added) {
		struct attachment **bucket = bucket_of(part, address);
		node->next = *bucket;
		*bucket = node;
		part->count++;
		node->on_block = is_block(address);
		if (node->on_block)
			block_mark(block_of((void *)address), BLOCK_SPECIAL);
	}
	base_unlock(&part->lock);
	if (!added)
		store_give(&nodes, node);
	return added;
}

static bool take(uintptr_t address, const void *object, struct attachment *out)
{
	struct part *part = part_of(address);
	struct attachment *node = NULL;
	if (!base_lock(&part->lock))
		return false;
	struct attachment **link = find(part, address);
	while (object && link && (*link)->object != object)
		link = next_of(link);
	if (link && ((*link)->kind != ATTACH_OWNED || leave((*link)->object, *link))) {
		node = *link;
		*link = node->next;
		part->count--;
		if (node->on_block && !find(part, address) && !block_is_untracked(block_of((void *)address)))
			block_unmark(block_of((void *)address), BLOCK_SPECIAL);
		*out = *node;
	}
	base_unlock(&part->lock);
	if (node)
		store_give(&nodes, node);
	return node != NULL;
}

bool attach_take(uintptr_t address, struct attachment *out)
{
	return take(address, NULL, out);
}

bool attach_take_from(uintptr_t address, const void *object)
{
	struct attachment taken;
	return take(address, object, &taken);
}

bool attach_find(uintptr_t address, enum attach_kind kind, struct attachment *out)
{
	struct part *part = part_of(address);
	if (!base_lock(&part->lock))
		return false;
	struct attachment **link = find(part, address);
	while (link && (*link)->kind != kind)
		link = next_of(link);
	if (link)
		*out = **link;
	base_unlock(&part->lock);
	return link != NULL;
}

uintptr_t attach_newest(struct attach_owner *owner)
{
	uintptr_t address = 0;
	if (!base_lock(&owner->lock))
		return 0;
	if (owner->newest)
		address = owner->newest->address;
	base_unlock(&owner->lock);
	return address;
}
