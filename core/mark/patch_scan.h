/* Does code of other functions jump into the bytes that a patch would take? Assembly does so (glibc's mempcpy enters
   memmove three bytes in), and the parts that compilers move away (`f.cold`) jump back to where they came from. */
#ifndef FA_MARK_PATCH_SCAN_H
#define FA_MARK_PATCH_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mark/image.h"
#include "core/mark/patch_relocate.h"

/* What earlier patches made of the code: how many bytes at an address they replaced, 0 for none, and each piece of code
   from [start, end) that now stands elsewhere. */
struct scan_patches {
	size_t (*displaced_at)(uintptr_t address);
	void (*each_moved)(uintptr_t start, uintptr_t end,
			   void (*visit)(void *context, const uint8_t *code, size_t bytes), void *context);
};

bool scan_jumped_into(const struct image *image, const struct displaced *displaced, const struct scan_patches *patches);

/* The same for the tables that a `switch` of the function at [start, end) jumps through. */
bool scan_tables(const struct image *image, uintptr_t start, uintptr_t end, const struct displaced *displaced);

/* A symbol, or the start of a function by the unwind table, in the middle of the displaced bytes is a second way in,
   which no branch shows. */
bool scan_entry_inside(const struct image *image, const struct displaced *displaced);

/* Binding is over for now: frees what was kept of the modules searched. */
void scan_release(void);

#endif
