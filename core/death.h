/* A block that did not die in the segment it was born in: resolve, check, count, record (DESIGN §8). Off the fast path. */
#ifndef FA_DEATH_H
#define FA_DEATH_H

#include "core/block.h"
#include "core/thread.h"

/* `counter`: of the block's site in the freeing thread's slot. `fp` may be NULL: no call path for the death. */
void death_check(struct thread *thread, struct trace_counter *counter, const struct block *block, const uintptr_t *fp);

#endif
