/*
 * Tokio's tasks in a binary, stripped or not. Every type of task that a Rust program can spawn has a constant table
 * among the data that is read-only after relocation: seven functions, then the offsets of three fields in the task's
 * memory (tokio/src/runtime/task/raw.rs, Vtable, since 1.23). The task's first 32 bytes, its header, lead to the table;
 * the header's address is what the allocator returned. bind.c makes each table's poll a task marker.
 */
#ifndef FA_MARK_TOKIO_H
#define FA_MARK_TOKIO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/mark/image.h"
#include "core/mark/mark.h"

#define TOKIO_VERSION_BYTES 16u

struct tokio_table {
	uintptr_t poll, schedule, dealloc; /* of the functions; each takes the task's header */
	uintptr_t slot; /* where the table holds poll */
};

/* Calls `found` for each table of the module, also before ld.so has relocated it, until it returns false. Goes by shape
   alone: ask tokio_seen whether the module has Tokio at all. Returns the number found. */
uint32_t tokio_tables(const struct image *image, bool (*found)(void *context, const struct tokio_table *table),
		      void *context);

/* Whether Tokio's runtime is compiled into the module, by the text that its panics carry; *version gets "1.24.2", or ""
   when it was built from a folder without a version in its name. Reads the module's constants once. */
bool tokio_seen(const struct image *image, char version[TOKIO_VERSION_BYTES]);

/* Calls `found` for the poll function of each table, once for each function, in all modules that markers are bound in,
   until it returns false; `found` may patch. Returns the number found. *reason tells of a module that has Tokio, but no
   table that is known; NULL when there is none such. It is valid until the next call. */
int tokio_each(bool (*found)(void *context, const struct mark_function *function), void *context, const char **reason);

/* Calls `visit` for each slot by which the runtime calls the poll function at this address. */
void tokio_slots(uintptr_t poll, void (*visit)(void *context, uintptr_t slot), void *context);

#endif
