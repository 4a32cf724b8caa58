/* Does code of other functions jump into the bytes that a patch would take? Assembly does so (glibc's mempcpy enters
   memmove three bytes in), and the parts that compilers move away (`f.cold`) jump back to where they came from. */
#ifndef FA_MARK_PATCH_SCAN_H
#define FA_MARK_PATCH_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mark/image.h"
#include "core/mark/patch_relocate.h"

/* `displaced_at` tells how many bytes at an address were replaced by an earlier patch, 0 for none. */
bool scan_jumped_into(const struct image *image, const struct displaced *displaced,
		      size_t (*displaced_at)(uintptr_t address));

/* The same for `bytes` of code at `code` that run at `address`: true when a rel32 branch in it leads there. */
bool scan_bytes(const uint8_t *code, size_t bytes, uintptr_t address, const struct displaced *displaced);

#endif
