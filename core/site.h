/*
 * Sites: from a call path to a small number, once per distinct path (the per-thread caches of core/path answer the rest).
 * Append-only; a full table folds new paths into shorter ones, counted.
 */
#ifndef FA_SITE_H
#define FA_SITE_H

#include "core/base.h"
#include "core/counter.h"
#include "core/path/path.h"
#include "core/runtime.h"
#include "core/thread.h"

int site_init(void);

/* The site of a path under a region, innermost pc first. `kept` is set where the path was folded: to how many pcs. */
uint32_t site_intern(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept);
struct trace_counter *site_of_caller(struct thread *thread, const uintptr_t *fp);
/* stacks=none: sites by role, region and size class, a power of two from 16 on. A thread finds small sizes by 16-byte
   steps, the others, and 0, by their logarithm. */
#define SITE_STEPS 512u
#define SITE_STEPPED_MAX (SITE_STEPS * 16)
#define SITE_CLASSES 64u
#define SITE_PLACES (SITE_STEPS + SITE_CLASSES)
#define SITE_CLASS_TABLE_BYTES ((TRACE_ROLE_IO + 1) * POLICY_REGIONS_MAX * SITE_PLACES * sizeof(struct thread_class))
static always_inline uint32_t site_class(size_t size)
{
	return 64u - (uint32_t)__builtin_clzll((size - (size != 0)) | 15); /* 4: up to 16 bytes */
}
static always_inline uint32_t site_place(size_t size)
{
	return likely(size - 1 < SITE_STEPPED_MAX) ? (uint32_t)(size - 1) / 16 : SITE_STEPS + site_class(size);
}
cold_path struct trace_counter *site_of_class(struct thread *thread, size_t size);

/* What path_value calls for a new path of an allocation: its site's counters in the slot that owns the cache. */
uint32_t site_intern_counter(void *thread, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept);

/* The site's counters of an allocation made by the caller of the hook whose frame is `fp`. Cost on a hit: one cache probe. */
static always_inline struct trace_counter *site_of_call(struct thread *thread, size_t size, const uintptr_t *fp)
{
	if (likely(runtime.stacks == TRACE_STACKS_FULL) && likely(thread->alloc_paths != NULL))
		return counter_at(path_value(thread->alloc_paths, fp, thread->tag, site_intern_counter));
	if (runtime.stacks != TRACE_STACKS_NONE)
		return site_of_caller(thread, fp);
	const struct thread_class *known = &thread->classes[site_place(size)];
	return likely(known->place) ? counter_at(known->place) : site_of_class(thread, size);
}

void site_child(void);

#endif
