/* Memory for machine code within a jump's reach of a function. Never writable and executable at once; patch.c writes
   while one thread runs and signals are blocked. */
#ifndef FA_MARK_NEAR_H
#define FA_MARK_NEAR_H

#include <stddef.h>
#include <stdint.h>

/* Reserves `bytes` (a few hundred), aligned to a cache line, within reach of [start, end) of a module and of
   every address in it. NULL: no free address range, or the system refuses executable memory. Never given back. */
void *near_reserve(uintptr_t start, uintptr_t end, size_t bytes);

/* Writes code at `at`: into memory from near_reserve, or over the bytes of a loaded function. 0, or -EACCES where policy
   forbids it. Calls nothing in libc while the page is not executable: it may be libc's own. */
int near_write(void *at, const void *bytes, size_t length);

#endif
