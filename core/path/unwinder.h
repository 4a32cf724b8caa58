/*
 * libunwind, for the frames that rows cannot express. It unwinds this process as if it were another one: what it reads of
 * memory and of unwind tables it asks of us. So it takes none of the loader's locks, which the thread that is asked for may
 * wait for, and opens no descriptors, which a program that closes all of its own would find among them.
 */
#ifndef FA_PATH_UNWINDER_H
#define FA_PATH_UNWINDER_H

#include "core/path/walk.h"

/* Opens it, from a place where dlopen may be called. -ENOENT when there is none. */
int unwinder_init(void);
/* The whole path of the walk from `fp` on, again from here, since the frames below know every register. False: it got no
   further than the walk. A thread that is cancelled does not end in it. */
bool unwinder_walk(const uintptr_t *fp, struct walk *walk);

#endif
