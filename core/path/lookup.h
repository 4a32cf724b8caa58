/*
 * The cache of call paths and its hit, for those who cannot afford a call: path.h says what it is.
 */
#ifndef FA_PATH_LOOKUP_H
#define FA_PATH_LOOKUP_H

#include "core/path/module.h"
#include "core/path/path.h"
#include "core/path/tree.h"

#define PATH_CACHE_BUSY UINT32_MAX

/* Room for a walk of so many frames; almost every path is no longer. */
#define PATH_SHALLOW 20

struct path_cache {
	/* one cache line, with the beginning of the tree: asked at every call */
	uint32_t ready; /* the module epoch it agrees with; 0 = new, PATH_CACHE_BUSY = in use */
	int32_t hits_left; /* until one is re-verified; below 0: this one is */
	uint32_t hits_given; /* what hits_left counts down from: these hits are not in `stats` */
	uint32_t random; /* for the hits that are re-verified */
	/* The path there is not to be looked for again, but walked: whoever looked has come from a hook. */
	const uintptr_t *missed;
	void *owner;
	uint32_t none; /* the owner's value for what it has none for */
	uint32_t changes; /* module_changes when last looked at */
	bool nested;
	bool deep; /* a path was longer than PATH_SHALLOW */
	bool has_cut; /* some of `folded` are deeper than the cap */
	uint8_t turn; /* the room that `last` is not in */

	_Alignas(TREE_UNIT) struct tree tree;
	struct path_stats stats;
	/* What was folded, or cut: by the innermost frames only. Asked where `tree` has no answer. NULL: nothing was yet. */
	struct tree *folded;
	uint64_t folded_hits;
	struct walk last; /* count 0: none */
	WALK_ROOM(PATH_SHALLOW) shallow_room[2];
	uintptr_t checked_pcs[PATH_DEPTH_MAX]; /* begins on the page of the shallow rooms */
	WALK_ROOM(PATH_DEPTH_MAX) deep_room[2];
	uintptr_t nested_pcs[PATH_DEPTH_MAX];
};
static_assert(offsetof(struct path_cache, tree.mask) < 64 && offsetof(struct path_cache, tree) % TREE_UNIT == 0,
	      "one line");

/* What was folded or cut, if this was. NULL also now and then of what was folded, when it is to be walked all the same. */
const struct tree_run *path_find_folded(struct path_cache *cache, const uintptr_t *fp, uint32_t tag);

/* Nobody else uses the cache meanwhile, and it agrees with the modules. The run that has the answer, or NULL: path_value must
   be asked, for a path that is new or one whose turn it is to be re-verified. Cost: a hash for the first run, two loads and
   a compare for each check, what tree_way takes at each branch, one counter. */
static always_inline const struct tree_run *path_find(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	const struct tree_run *run = tree_find(&cache->tree, fp, tree_root_owner(fp, tag));
	if (unlikely(!run) && (!cache->folded || !(run = path_find_folded(cache, fp, tag)))) {
		cache->missed = fp;
		return NULL;
	}
	return unlikely(--cache->hits_left < 0) ? NULL : run;
}

/* The same for a cache that only this thread uses, signal handlers kept out. */
static always_inline const struct tree_run *path_known(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	if (unlikely(cache->ready != atomic_load_explicit(&module_epoch, memory_order_acquire)))
		return NULL;
	return path_find(cache, fp, tag);
}

/* What was found is of no use: who asks again counts it. */
static always_inline void path_take_back(struct path_cache *cache)
{
	cache->hits_left++;
}

#endif
