/* Moving the first instructions of a function elsewhere without changing what they do. Pure: reads code, writes to a
   buffer. patch.c installs the result; tests/c/check_relocate.c tries it on every function of large libraries. */
#ifndef FA_MARK_PATCH_RELOCATE_H
#define FA_MARK_PATCH_RELOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATCH_JUMP_BYTES 5 /* jmp rel32, what a patched function starts with */
#define RELOCATED_MAX_BYTES 160

struct displaced {
	uintptr_t start; /* where the jump goes: the function's address, or behind its endbr64 */
	size_t bytes; /* whole instructions from start that the jump overwrites */
	size_t padding; /* bytes behind the function's end that are taken besides */
	bool ends; /* control never leaves the last of them by falling through */
};

/* Behind the last byte that the jump takes. */
static inline uintptr_t displaced_end(const struct displaced *displaced)
{
	return displaced->start + displaced->bytes + displaced->padding;
}

/* Decides which bytes of the function at `address` the jump takes. `size` is the function's, 0 when unknown; `readable`
   is how many bytes may be read from address. Returns NULL, or why the function can't be patched (static text). */
const char *displaced_measure(uintptr_t address, size_t size, size_t readable, struct displaced *out);

/* Writes code that does, at address `at`, what the displaced instructions do at theirs, and continues behind them.
   `out` has RELOCATED_MAX_BYTES. Returns NULL and sets *length, or the reason. */
const char *displaced_relocate(const struct displaced *displaced, uintptr_t at, uint8_t *out, size_t *length);

#endif
