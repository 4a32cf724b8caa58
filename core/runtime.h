/*
 * What the whole process shares: the configuration, sealed read-only once start-up is over, and the steps of start-up.
 *
 *   runtime_start   at the first call of any hook: environment, options, region, recording, main thread
 *   runtime_finish_start   from the library's constructor: unwinder, disassembler, markers
 *   runtime_end     at exit
 *   runtime_child   in the child of a fork, at its first slow path: from then on it allocates, and records nothing unless
 *                   children are followed
 */
#ifndef FA_RUNTIME_H
#define FA_RUNTIME_H

#include "core/base.h"
#include "core/registry/options.h"

enum runtime_phase {
	RUNTIME_COLD = 0, /* nothing has run */
	RUNTIME_STARTING, /* runtime_start is on some stack: serve from the heap tier, untracked */
	RUNTIME_RECORDING, /* observe or route */
	RUNTIME_UNRECORDED, /* our tiers without accounts: the child of a fork */
	RUNTIME_ASIDE, /* mode off, a child process, a sanitizer: everything goes to the next allocator */
};

/* Sealed after start-up. */
struct runtime {
	struct options options;
	enum trace_mode mode;
	enum trace_stacks stacks;
	size_t frame_block_max, pool_block_max; /* largest block of each tier, bytes */
	uint64_t hot_loop, heap_hot, long_lived, frame_limit, demote_bytes, promote_frames, frame_budget;
} __attribute__((aligned(4096))); /* whole pages: nothing else may share them */
extern struct runtime runtime own_data;
extern _Atomic uint32_t runtime_phase; /* enum runtime_phase */

/* True once runtime_start is over on any thread; the caller may then attach itself. */
void runtime_start(void);
/* `served_by_us`: malloc is ours. Else no library is loaded (library.h). */
void runtime_finish_start(bool served_by_us);
void runtime_end(int status, bool status_known);
void runtime_child(void);
/* False in a vfork child, which runs in its parent's memory, and while the shim starts. A fork is noticed. */
bool runtime_owns_memory(void);
bool runtime_forked(void); /* true in the child of a fork that has not noticed yet, or is not recorded; one load */
bool runtime_is_new_child(
	void); /* true in one that has not noticed yet, or is about to: runtime_child is to be called */
/* The phase, after start-up and with a fork noticed: for entries that are no allocation. */
enum runtime_phase runtime_current(void);

/* The arguments as the kernel laid them out, which the program may have written over; NULL when that is not known. */
char **runtime_arguments(int *count);
/* The value of a variable of the initial environment, usable before libc has set environ; NULL when unset. */
const char *runtime_environment(const char *name);

#endif
