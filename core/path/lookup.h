/*
 * The cache of call paths and its hit, for those who cannot afford a call: path.h says what it is.
 */
#ifndef FA_PATH_LOOKUP_H
#define FA_PATH_LOOKUP_H

#include "core/path/module.h"
#include "core/path/path.h"
#include "core/path/tree.h"

#define PATH_CACHE_BUSY UINT32_MAX
#define PATH_UNKNOWN UINT32_MAX /* no value of a path */

struct path_cache {
	uint32_t ready; /* the module epoch it agrees with; 0 = new, PATH_CACHE_BUSY = in use */
	uint32_t random; /* for the hits that are re-verified */
	uint64_t check_at; /* hits */
	struct path_stats stats;
	void *owner;
	uint32_t changes; /* module_changes when last looked at */
	bool nested;
	uint32_t turn; /* the room that `last` is not in */
	struct walk last; /* count 0: none */
	struct walk_room {
		uintptr_t pcs[PATH_DEPTH_MAX];
		struct walk_frame frames[PATH_DEPTH_MAX];
		int32_t offsets[WALK_CHECKS_MAX];
		uint64_t values[WALK_CHECKS_MAX];
	} room[2];
	uintptr_t nested_pcs[PATH_DEPTH_MAX], checked_pcs[PATH_DEPTH_MAX];
	struct tree tree;
	/* What was folded: by the innermost frames only. Asked where `tree` has no answer. */
	uint64_t folded_hits;
	struct tree folded;
};

/* What was folded, if this was. NULL also now and then, when it is to be walked all the same. */
const struct tree_run *path_find_folded(struct path_cache *cache, const uintptr_t *fp, uint32_t tag);

/* Nobody else uses the cache meanwhile, and it agrees with the modules. PATH_UNKNOWN: path_value must be asked, for a path
   that is new or one whose turn it is to be re-verified. Cost: a hash for the first run, two loads and a compare for
   each check, what tree_way takes at each branch, one store. */
static always_inline uint32_t path_find(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	uint64_t hits = cache->stats.hits + 1;
	const struct tree_run *run = tree_find(&cache->tree, fp, tree_tagged(fp[1], tag));
	if (unlikely(!run) && cache->folded.used)
		run = path_find_folded(cache, fp, tag);
	if (unlikely(!run) || unlikely(hits >= cache->check_at))
		return PATH_UNKNOWN;
	cache->stats.hits = hits;
	return run->answer;
}

/* The same for a cache that only this thread uses, signal handlers kept out. */
static always_inline uint32_t path_known(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	if (unlikely(cache->ready != atomic_load_explicit(&module_epoch, memory_order_acquire)))
		return PATH_UNKNOWN;
	return path_find(cache, fp, tag);
}

#endif
