/*
 * Sites and call-tree nodes: from a call path to a small number, once per distinct path (the per-thread caches of
 * core/path answer the rest). Both tables are append-only; a full table folds new paths into shorter ones, counted.
 */
#ifndef FA_SITE_H
#define FA_SITE_H

#include "core/base.h"
#include "core/path/path.h"
#include "core/runtime.h"
#include "core/thread.h"

int site_init(void);

/* The site of a path under a region, innermost pc first. */
uint32_t site_intern(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag);
uint32_t site_of_caller(struct thread *thread, const uintptr_t *fp);
/* stacks=none: sites by role, region and size class (a power of two, from 16), 0 where there is none yet. */
#define SITE_CLASSES 64
extern uint32_t site_class_table[TRACE_ROLE_IO + 1][POLICY_REGIONS_MAX][SITE_CLASSES];
cold_path uint32_t site_of_class(struct thread *thread, uint32_t class_index);

/* The site of an allocation made by the caller of the hook whose frame is `fp`. Cost on a hit: one cache probe. */
static always_inline uint32_t site_of_call(struct thread *thread, size_t size, const uintptr_t *fp)
{
	if (likely(runtime.stacks == TRACE_STACKS_FULL))
		return path_value(thread->alloc_paths, fp, thread->tag, site_intern);
	if (runtime.stacks == TRACE_STACKS_CALLER)
		return site_of_caller(thread, fp);
	uint32_t class_index = size <= 16 ? 4u : 64u - (uint32_t)__builtin_clzll(size - 1);
	uint32_t site = thread->class_site[class_index];
	return likely(site) ? site : site_of_class(thread, class_index);
}

/* The node of the current call path (a death, a boundary); 0 when call paths are off. */
uint32_t site_node_of_call(struct thread *thread, const uintptr_t *fp);

/* The node of a function's entry, without a path; 0 when the tree is full. */
uint32_t site_node_of_function(uintptr_t address);

/* Appends records for modules that core/path has noticed since the last call. */
void site_modules_sync(void);

/* Module record of an address, TRACE_NO_MODULE when none. */
uint32_t site_module_of(uintptr_t address);

void site_child(void);

#endif
