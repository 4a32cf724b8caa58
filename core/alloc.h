/*
 * malloc, free and realloc as the hooks see them. `fp` is the hook's frame address (core/path/path.h).
 * All preserve errno on success; allocation failures return NULL and leave errno to the hook.
 */
#ifndef FA_ALLOC_H
#define FA_ALLOC_H

#include "core/base.h"
#include "core/trace/format.h"

struct block;
struct thread;

/* malloc. Cost on the fast path: one TLS load, the call path's cache probe, the tier's take, account_birth. */
void *alloc_malloc(size_t size, const uintptr_t *fp);

/* The general form; align is a power of two, 0 and 1 mean none. */
void *alloc_new(size_t size, size_t align, bool zeroed, const uintptr_t *fp);

/* Cost on the fast path: owner lookup, one cache line of the block, account_death, the tier's give. */
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
