/*
 * Call paths: which chain of return addresses led here, exactly, and nearly for free (DESIGN §6).
 *
 * A path_cache belongs to one thread and maps the current call path to a 32-bit value that the owner chose when the
 * path was first seen (a site id, a call-tree node). The owner's memory must be zeroed; all-zero is an empty cache.
 *
 * `fp` is always the frame address of an interposed function compiled with a frame pointer: fp[0] is the caller's rbp,
 * fp[1] the return address into the caller, fp + 2 the caller's stack pointer after the call returns (its CFA base).
 */
#ifndef FA_PATH_PATH_H
#define FA_PATH_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATH_DEPTH_MAX 512

/* Called on a miss with the exact path, innermost first; must not call malloc. `cut`: deeper than the cap. The modules
   of the path are known then; path_modules_refresh does nothing inside, so that the callee may hold a lock. `kept` holds
   `count`; where the value is the same for all paths with so many innermost pcs, the callee may say so by a lower
   number, and by 0 that it is not to be kept. For a path that is kept whole with a value other than 0 it is asked again
   now and then, and that counted as wrong if the value is another then, unless the owner had none before. */
typedef uint32_t (*path_intern_fn)(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag,
				   size_t *kept);

struct path_cache; /* opaque; path_cache_bytes() long, page aligned */

struct path_stats {
	uint64_t captures, hits, checks, wrong;
	uint64_t failed; /* of the captures: they end at code that nothing says how to leave */
};

/* Once, from the shim's constructor: reads module tables, and opens libunwind-x86_64.so.8.
   Returns 0, or -ENOENT when there is no unwind information at all: then only callers can be had, a path of one (the return
   address). Before it has run no path is cut, and none goes on by libunwind. depth_max <= PATH_DEPTH_MAX. */
int path_init(size_t depth_max);

/* How many hits lie between two that are re-verified by a full walk, on average (1: each one). */
void path_check_every(uint32_t hits);

size_t path_cache_bytes(void);

/* What `intern` is handed as owner, and the value by which it says that it has none for a path: NULL and 0 in a new cache. */
void path_cache_own(struct path_cache *cache, void *owner, uint32_t none);

/* The value of the current path under `tag` (below 256: paths under different tags are different), from the cache or by
   `intern`. Re-entrant per thread (signal handlers get a full
   capture when they interrupt a lookup). No lock, no malloc, errno preserved. */
uint32_t path_value(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern);

/* Full capture without a cache. Returns the number of pcs; *cut tells whether the path was deeper than `max`. */
size_t path_capture(const uintptr_t *fp, uintptr_t *pcs, size_t max, bool *cut);

/* Where in its code the frame that was entered at frame address `outer` (as `fp`, further out on this stack) has called, directly or
   not, what `fp` belongs to. 0: it has not; also 512 frames further out, and where only libunwind gets. Before path_init, too.
   Cost: some 20 ns a frame. */
uintptr_t path_pc_within(const uintptr_t *fp, const uintptr_t *outer);

/* Adds this cache's numbers to *stats. */
void path_cache_stats(const struct path_cache *cache, struct path_stats *stats);

#define PATH_MODULES_MAX 1024
struct path_module {
	uintptr_t base, start, end; /* load bias, lowest and highest mapped address of PT_LOADs */
	uintptr_t code_start, code_end; /* of those that are executable; nothing between them: none is */
	const char *path; /* /proc/self/exe's target for the main program; "[vdso]" for the vdso */
	const uint8_t *build_id;
	size_t build_id_bytes;
	bool unloaded;
};

/* Notices modules that came or went since the last call (dlpi_adds/dlpi_subs make the common case cheap). Called at
   misses and markers. Module indices are stable for the process's life; an unloaded one keeps its entry. */
void path_modules_refresh(void);
/* The loader's event: its list has changed. The thread that has changed it looks, here. Once this was called it is taken to be
   called each time, and a refresh only waits for who looks, a little: the loader's lock may be held by a thread that waits for
   what the caller of malloc holds. */
void path_modules_told(void);
/* The event before that, on the same thread: some are about to be unmapped. */
void path_modules_leaving(void);
size_t path_modules_count(void);
/* Those that are mapped and have no entry: there were so many others before. */
size_t path_modules_beyond(void);
const struct path_module *path_module_at(size_t index);
/* Index of the module that holds pc now, or UINT32_MAX. Lock-free. */
uint32_t path_module_of(uintptr_t pc);

#endif
