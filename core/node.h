/*
 * Nodes of the call tree: a return address under the node of its caller. A call path is the node of its innermost pc, whose
 * parents are the rest. Found once per distinct path (the per-thread caches of core/path answer the others). Append-only.
 */
#ifndef FA_NODE_H
#define FA_NODE_H

#include "core/base.h"
#include "core/thread.h"

#define NODE_MAX (1u << 18)

/* -ENOMEM: there is no memory for the table. */
int node_init(void);
/* In the child of a fork: it records anew, or no more. */
void node_child(void);

/* Guards the tree and the sites that hang on it (site.c). False: who hurries (base.h) does not get it. */
bool node_lock(void);
void node_unlock(void);

/* Lock held. How many of a path's pcs, innermost first, tell where it comes from. A signal handler's path ends at the trampoline that the
   kernel returns through: where the interrupted code stood is no reason for an allocation, and would make every interrupted
   instruction a path of its own. */
size_t node_path_part(const uintptr_t *pcs, size_t count);

/* Lock held. The node of a path, innermost pc first; `cut`: it has more callers than these. UINT32_MAX: it is new, and the tree
   is full or must not grow. */
uint32_t node_of_path(const uintptr_t *pcs, size_t count, bool cut, bool may_add);

/* Of the call path of a hook whose frame is `fp` (a death, a boundary); 0 when call paths are off, or the tree is full. */
uint32_t node_of_call(struct thread *thread, const uintptr_t *fp);

/* Of a function's entry, without a path; 0 when the tree is full. */
uint32_t node_of_function(uintptr_t address);

/* Module record of an address, TRACE_NO_MODULE when none. */
uint32_t node_module_of(uintptr_t address);
/* Notices the module of an address if it was loaded since. Before any lock is taken: dl_iterate_phdr takes the loader's. */
void node_notice_module(uintptr_t address);
/* Appends records for modules that core/path has noticed since the last call. */
void node_modules_sync(void);

#endif
