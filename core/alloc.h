/*
 * malloc, free and realloc as the hooks see them. `fp` is the hook's frame address (core/path/path.h).
 * All preserve errno on success; without memory they return NULL and, but for alloc_malloc, leave errno to the hook.
 */
#ifndef FA_ALLOC_H
#define FA_ALLOC_H

#include <errno.h>

#include "core/base.h"
#include "core/trace/format.h"

struct block;
struct thread;

static always_inline void *alloc_or_enomem(void *pointer)
{
	if (unlikely(!pointer))
		errno = ENOMEM;
	return pointer;
}

/* malloc, where hot.h has not served it: with call paths its fast path is here, since the probe of their cache is a call. */
void *alloc_malloc(size_t size, const uintptr_t *fp);

/* The general form; align is a power of two, 0 and 1 mean none. */
void *alloc_new(size_t size, size_t align, bool zeroed, const uintptr_t *fp);

/* free, where hot.h has not served it. */
void alloc_free(void *pointer, const uintptr_t *fp);

/* Ends what hangs on a block (attach.h) that is about to die; `thread` NULL: takes it off only. */
void alloc_end_attached(struct thread *thread, struct block *block, const uintptr_t *fp);

/* What the API asks `wanted` memory for: from that tier or the next that may hold it, told as FA001 or FA701 where frame
   memory can't be had. The thread's gate is closed. NULL: no memory. */
void *alloc_asked(struct thread *thread, enum trace_tier wanted, size_t size, const uintptr_t *fp);

/* pointer != NULL, size > 0. */
void *alloc_resize(void *pointer, size_t size, const uintptr_t *fp);

size_t alloc_usable(void *pointer);

/* Marks a block as handed over to another thread on purpose. Any address is allowed. */
void alloc_hand_over(void *pointer);

#endif
