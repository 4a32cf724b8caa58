/*
 * The module registry as the unwinder and the call-path cache see it: the public part is in path.h. A module's slot is
 * filled once and published by the count; afterwards only `unloaded` changes, so readers need no lock.
 */
#ifndef FA_PATH_MODULE_H
#define FA_PATH_MODULE_H

#include "core/base.h"
#include "core/path/path.h"

/* What unwinding needs of a module. `table` is the sorted search table of .eh_frame_hdr; NULL when there is none. */
struct module_unwind {
	const uint8_t *header; /* .eh_frame_hdr, the base of the table's offsets */
	const int32_t *table; /* pairs: function start, FDE; both relative to `header` */
	size_t entries;
};

/* Changes whenever a cached path may have become stale. Never 0, so that a zeroed cache is out of date, and below
   UINT32_MAX; has a cache line of its own since every answer reads it. */
#define MODULE_NOT_STARTED 1u /* before path_init */
extern _Atomic uint32_t module_epoch;

/* Ranges of code that is not what it was, so far: unloaded, or loaded where code without a module ran before. The last
   MODULE_CHANGES_KEPT can be asked for. */
#define MODULE_CHANGES_KEPT 64
extern _Atomic uint32_t module_changes;
struct module_range {
	uintptr_t start, end;
};
struct module_range module_changed_range(uint32_t number);
/* A path was taken through `pc`, which lies in no module. */
void module_note_foreign(uintptr_t pc);

const struct module_unwind *module_unwind_at(uint32_t index);
/* It lies in a module, and in none of its executable segments. */
bool module_says_data(uintptr_t pc);
/* True for addresses in the dynamic loader: it is about to change, or has changed, what is mapped. */
bool module_is_loader(uintptr_t pc);
/* Makes every cache look at the modules again before its next answer. */
void module_suspect(void);
int module_init(void);

/* While `intern` runs its owner may hold a lock, under which dl_iterate_phdr must not be called: refreshes are skipped. */
extern __thread bool module_refresh_barred;

#endif
