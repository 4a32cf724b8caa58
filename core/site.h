/*
 * Sites and call-tree nodes: from a call path to a small number, once per distinct path (the per-thread caches of
 * core/path answer the rest). Both tables are append-only; a full table folds new paths into shorter ones, counted.
 */
#ifndef FA_SITE_H
#define FA_SITE_H

#include "core/base.h"
#include "core/thread.h"

int site_init(void);

/* The site of an allocation made by the caller of the hook whose frame is `fp`. Cost on a hit: one cache probe. */
uint32_t site_of_call(struct thread *thread, size_t size, const uintptr_t *fp);

/* The node of the current call path (a death, a boundary); 0 when call paths are off. */
uint32_t site_node_of_call(struct thread *thread, const uintptr_t *fp);

/* Appends records for modules that core/path has noticed since the last call. */
void site_modules_sync(void);

/* Module record of an address, TRACE_NO_MODULE when none. */
uint32_t site_module_of(uintptr_t address);

void site_child(void);

#endif
