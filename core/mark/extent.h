/* Where a function begins and ends when no symbol tells: from the unwind tables, which stripped programs keep. */
#ifndef FA_MARK_EXTENT_H
#define FA_MARK_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mark/image.h"

/* Finds the range that has one unwind description and holds `address`. False: no table, or none for this address. */
bool extent_find(const struct image *image, uintptr_t address, uintptr_t *start, size_t *size);

#endif
