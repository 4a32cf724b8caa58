/*
 * Records of one size for the shim's own tables: tasks, coroutines, attachments. They never move, and their memory is
 * never given back: a stale pointer to one reads a record, if perhaps another's.
 */
#ifndef FA_STORE_H
#define FA_STORE_H

#include "core/base.h"

struct store {
	struct base_lock lock;
	uint32_t record_bytes; /* at least a pointer's, a multiple of 16 */
	void *free; /* chained by their first word */
	char *fresh, *fresh_end;
};

/* A zeroed record; NULL: no memory, or a signal handler came while this thread was at the same store. Any thread. */
void *store_take(struct store *store);
void store_give(struct store *store, void *record);

#endif
