/* Records are cut from mappings of 64 KiB; what is given back is taken first. */
#include "core/store.h"

#include <string.h>

#define CHUNK_BYTES (64u << 10)

static bool refill(struct store *store)
{
	void *memory = base_map(CHUNK_BYTES);
	if (!memory)
		return false;
	store->fresh = memory;
	store->fresh_end = store->fresh + CHUNK_BYTES / store->record_bytes * store->record_bytes;
	return true;
}

void *store_take(struct store *store)
{
	void *record = NULL;
	if (!base_lock(&store->lock))
		return NULL;
	if (store->free) {
		record = store->free;
		store->free = *(void **)record;
	} else if (store->fresh < store->fresh_end || refill(store)) {
		record = store->fresh;
		store->fresh += store->record_bytes;
	}
	base_unlock(&store->lock);
	return record ? memset(record, 0, store->record_bytes) : NULL;
}

void store_give(struct store *store, void *record)
{
	if (!base_lock(&store->lock))
		return;
	*(void **)record = store->free;
	store->free = record;
	base_unlock(&store->lock);
}
