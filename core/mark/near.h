/* Memory for machine code within a jump's reach of a function, and writing code. patch.c calls this, one thread at a
   time; signals are blocked during a write. Others may run code on the very page. */
#ifndef FA_MARK_NEAR_H
#define FA_MARK_NEAR_H

#include <stddef.h>
#include <stdint.h>

/* Reserves `bytes` (a few hundred), aligned to a cache line, within reach of [start, end) of a module and of
   every address in it. NULL: no free address range, or the system refuses executable memory. */
void *near_reserve(uintptr_t start, uintptr_t end, size_t bytes);

/* Gives back what is not needed of the block reserved last: of its `bytes`, `kept` remain. */
void near_shrink(void *block, size_t bytes, size_t kept);

/* Writes code: into memory from near_reserve, or over that of a loaded module; by one store where the bytes fit into an
   aligned word. Whatever else lies on the page can be run meanwhile. 0, or -EACCES if policy forbids it: nothing is
   changed then. Calls nothing in libc, since the page may hold libc's own code. */
int near_write(void *at, const void *bytes, size_t length);

#endif
