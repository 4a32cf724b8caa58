/*
 * The verified call-path cache (DESIGN §6): answers come from a tree of checks (tree.h) that leave no other path possible,
 * or from a full walk. Where the owner tells paths apart by their innermost frames only, or the cap does, these are all that is
 * checked, at any depth of the stack.
 * Unmapped code drops its candidates before the next answer. One thread uses a cache; a signal handler that finds it in use
 * walks without it.
 */
#include "core/path/lookup.h"

#include <errno.h>
#include <string.h>

#include "core/path/cfi.h"
#include "core/path/module.h"
#include "core/path/walk.h"

#define FOLDED_WALKED 1024u

static uint32_t check_interval = 1024;

void path_check_every(uint32_t hits)
{
	check_interval = hits ? hits : 1;
}

/* Agrees with what is mapped now; other candidates stay. */
static uint32_t agree(struct path_cache *cache)
{
	path_modules_refresh();
	cache->last.count = 0;
	uint32_t epoch = atomic_load(&module_epoch), changes = atomic_load(&module_changes);
	if (changes - cache->changes > MODULE_CHANGES_KEPT / 2) { /* older ranges may be being overwritten */
		tree_clear(&cache->tree);
		if (cache->folded)
			tree_clear(cache->folded);
	} else {
		for (; cache->changes != changes; cache->changes++) {
			struct module_range range = module_changed_range(cache->changes);
			tree_drop_range(&cache->tree, range.start, range.end);
			if (cache->folded)
				tree_drop_range(cache->folded, range.start, range.end);
		}
	}
	cache->changes = changes;
	return epoch;
}

static uint32_t intern_barred(const struct path_cache *cache, path_intern_fn intern, const struct walk *walk,
			      uint32_t tag, size_t *kept)
{
	bool barred = module_refresh_barred;
	module_refresh_barred = true;
	*kept = walk->count;
	uint32_t value = intern(cache->owner, walk->pcs, walk->count, walk->cut, tag, kept);
	module_refresh_barred = barred;
	return value;
}

/* In the room that `last` is not in. `readable`: of the walk (walk.h). */
static struct walk walk_from(struct path_cache *cache, const uintptr_t *fp, const struct walk *last, uint64_t readable)
{
	for (;; cache->deep = true) {
		struct walk walk = cache->deep ? WALK_IN(cache->deep_room[cache->turn])
					       : WALK_IN(cache->shallow_room[cache->turn]);
		walk.last = last;
		walk.readable = readable;
		walk_run(fp, &walk);
		if (likely(!walk.cut || walk.max < PATH_SHALLOW || cache->deep))
			return walk;
	}
}

/* A handler interrupted a use of this cache, or may not ask the loader what is mapped now: nothing is kept. */
static uint32_t value_nested(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	uintptr_t caller = fp[1];
	struct walk walk = {.pcs = &caller, .count = 1, .cut = true, .max = PATH_DEPTH_MAX};
	size_t kept;
	if (cache->nested) /* a handler within a handler: its caller only */
		return intern_barred(cache, intern, &walk, tag, &kept);
	cache->nested = true;
	walk.pcs = cache->nested_pcs;
	walk_run(fp, &walk);
	uint32_t value = intern_barred(cache, intern, &walk, tag, &kept);
	cache->stats.captures++;
	cache->nested = false;
	return value;
}

/* For a walk that goes there, not where the last one has. Most threads fold nothing. NULL: there is no memory for it, so that such
   paths are walked each time. */
static struct tree *folded_for_walk(struct path_cache *cache)
{
	struct tree *folded = cache->folded;
	tree_forget_last(&cache->tree);
	if (!folded)
		cache->folded = folded = base_map_wiped(sizeof *folded);
	return folded;
}

/* Its `kept` innermost frames. */
static void insert_folded(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, struct walk walk, size_t kept,
			  uint32_t value)
{
	struct tree *folded = folded_for_walk(cache);
	if (!folded)
		return;
	walk.checks = walk.frames[kept - 1].checks;
	walk.guessed = false;
	walk.beyond = 0;
	walk.common = 0;
	tree_insert_at_any_depth(folded, fp, tree_folded_owner(tag), &walk, value);
}

/* What was cut is innermost frames, too: a recursion comes by with the same ones at each depth. */
static void insert_cut(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, const struct walk *walk,
		       uint32_t value)
{
	struct tree *folded = folded_for_walk(cache);
	if (!folded)
		return;
	cache->has_cut = true;
	tree_insert_at_any_depth(folded, fp, tree_cut_owner(tag), walk, value);
}

static const struct tree_run *find_at_any_depth(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	struct tree *folded = cache->folded;
	if (!folded)
		return NULL;
	if (cache->has_cut) {
		const struct tree_run *run = tree_find_at_any_depth(folded, fp, tree_cut_owner(tag));
		if (run && *(const uintptr_t *)((const uint8_t *)fp + run->beyond)) /* else it ends just there */
			return run;
	}
	return tree_find_at_any_depth(folded, fp, tree_folded_owner(tag));
}

static cold_path uint32_t value_miss(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	bool by_loader = module_is_loader(fp[1]);
	if (by_loader)
		path_modules_refresh();
	struct walk walk = walk_from(cache, fp, cache->last.count ? &cache->last : NULL, 0);
	cache->stats.captures++;
	cache->stats.failed +=
		walk.failed || (walk.guessed && !module_is_loader(walk.pcs[walk.count - 1])); /* its first frame */
	size_t kept;
	uint32_t value = intern_barred(cache, intern, &walk, tag, &kept);
	/* The loader allocates whenever it maps: its own calls are never cached, so each of them comes by here and makes
	   every cache look at the modules again. */
	if (by_loader) {
		module_suspect();
	} else if (walk.cacheable && kept) {
		if (kept < walk.count)
			insert_folded(cache, fp, tag, walk, kept, value);
		else if (walk.beyond)
			insert_cut(cache, fp, tag, &walk, value);
		else
			tree_insert(&cache->tree, fp, tree_root_owner(fp, tag), &walk, value);
		cache->last = walk;
		cache->turn ^= 1;
	}
	return value;
}

/* Now and then a folded one is walked all the same: a path that has a value of its own is found again. */
const struct tree_run *path_find_folded(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	const struct tree_run *run = find_at_any_depth(cache, fp, tag);
	return run && (run->beyond || ++cache->folded_hits % FOLDED_WALKED) ? run : NULL;
}

/* Whether the owner has another value for a whole path than its answer. Where that was none it is not wrong: there may be room now. */
static bool is_another(const struct path_cache *cache, path_intern_fn intern, const struct walk *walk, uint32_t tag,
		       uint32_t answer)
{
	size_t kept;
	return answer && answer != cache->none && intern_barred(cache, intern, walk, tag, &kept) != answer &&
	       kept == walk->count;
}

/* A sampled hit: would a full walk have said the same, and is its value what was answered? The next one is somewhere in twice the
   interval from here, so that no rhythm of the program's keeps a path out of sight. */
static cold_path uint32_t value_recheck(struct path_cache *cache, const uintptr_t *fp, uint32_t tag,
					path_intern_fn intern, struct tree *tree, const struct tree_run *run)
{
	int saved_errno = errno;
	cache->random = cache->random * 1664525u + 1013904223u;
	cache->stats.hits += cache->hits_given + 1;
	cache->hits_given = (uint32_t)((uint64_t)cache->random * (2 * check_interval - 1) >> 32);
	cache->hits_left = (int32_t)cache->hits_given;
	struct walk walk = walk_from(cache, fp, NULL, tree_pages(tree, run, fp));
	cache->stats.checks++;
	uint32_t value = run->answer;
	size_t count = tree_path(tree, run, cache->checked_pcs, PATH_DEPTH_MAX);
	bool whole = tree != cache->folded, same = count == walk.count;
	if (!whole)
		same = run->beyond ? same && walk.cut : count <= walk.count;
	same = same && !memcmp(cache->checked_pcs, walk.pcs, count * sizeof walk.pcs[0]);
	if (same && whole && !walk.cut)
		same = !is_another(cache, intern, &walk, tag, value);
	cache->stats.wrong += !same;
	if (!same || (whole && value && value == cache->none)) {
		tree_remove(tree, run);
		value = value_miss(cache, fp, tag, intern);
	}
	errno = saved_errno;
	return value;
}

/* What walks need, but for libunwind: at the first allocation, which may be that of another library's constructor. */
static bool begin(void)
{
	if (atomic_load(&module_epoch) != MODULE_NOT_STARTED)
		return true;
	int saved_errno = errno;
	bool begun = !base_hurries() && !cfi_init() && !module_init();
	if (begun)
		module_suspect();
	errno = saved_errno;
	return begun;
}

static cold_path uint32_t value_slow(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	int saved_errno = errno;
	bool begun = begin();
	uint32_t epoch = atomic_load(&module_epoch), value;
	if (!begun) {
		uintptr_t caller = fp[1];
		size_t kept = 1;
		value = intern(cache->owner, &caller, 1, false, tag, &kept);
	} else if (cache->ready == PATH_CACHE_BUSY || (cache->ready != epoch && base_hurries())) {
		value = value_nested(cache, fp, tag, intern);
	} else {
		bool changed = cache->ready != epoch;
		cache->ready = PATH_CACHE_BUSY;
		atomic_signal_fence(memory_order_seq_cst);
		if (changed)
			epoch = agree(cache);
		struct tree *tree = &cache->tree;
		bool missed = !changed && cache->missed == fp;
		cache->missed = NULL;
		const struct tree_run *run = missed ? NULL : tree_find(tree, fp, tree_root_owner(fp, tag));
		if (!run && !missed && (run = find_at_any_depth(cache, fp, tag)))
			tree = cache->folded;
		if (!run)
			value = value_miss(cache, fp, tag, intern);
		else if (cache->hits_left > 0)
			value = run->answer, cache->hits_left--;
		else if (base_hurries())
			value = run->answer, cache->stats.hits++;
		else
			value = value_recheck(cache, fp, tag, intern, tree, run);
		atomic_signal_fence(memory_order_seq_cst);
		cache->ready = epoch;
	}
	errno = saved_errno;
	return value;
}

uint32_t path_value(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	const struct tree_run *run = NULL;
	uint32_t value = 0, ready = cache->ready;
	if (likely(ready == atomic_load_explicit(&module_epoch, memory_order_acquire))) {
		cache->ready = PATH_CACHE_BUSY;
		atomic_signal_fence(memory_order_seq_cst);
		if (cache->missed != fp)
			run = path_find(cache, fp, tag);
		if (likely(run != NULL))
			value = run->answer;
		atomic_signal_fence(memory_order_seq_cst);
		cache->ready = ready;
	}
	return likely(run != NULL) ? value : value_slow(cache, fp, tag, intern);
}

size_t path_capture(const uintptr_t *fp, uintptr_t *pcs, size_t max, bool *cut)
{
	int saved_errno = errno;
	struct walk walk = {.pcs = pcs, .max = max};
	if (!begin()) {
		walk.count = max ? 1 : 0;
		walk.cut = true;
		if (max)
			pcs[0] = fp[1];
	} else {
		walk_run(fp, &walk);
	}
	if (cut)
		*cut = walk.cut;
	errno = saved_errno;
	return walk.count;
}

uintptr_t path_pc_within(const uintptr_t *fp, const uintptr_t *outer)
{
	int saved_errno = errno;
	uintptr_t pc = 0;
	struct walk walk = {.pcs = &pc, .max = 1, .sought = (uintptr_t)(outer + 2)};
	if (!cfi_init())
		walk_run(fp, &walk);
	errno = saved_errno;
	return walk.sought_pc && walk.sought_pc == outer[1] ? pc : 0;
}

size_t path_cache_bytes(void)
{
	return round_up(sizeof(struct path_cache), 4096);
}

void path_cache_own(struct path_cache *cache, void *owner, uint32_t none)
{
	cache->owner = owner;
	cache->none = none;
}

void path_cache_stats(const struct path_cache *cache, struct path_stats *stats)
{
	if (!cache->ready) /* never used: its pages are none yet */
		return;
	stats->captures += cache->stats.captures;
	stats->hits += cache->stats.hits + cache->hits_given - (uint32_t)(cache->hits_left > 0 ? cache->hits_left : 0);
	stats->checks += cache->stats.checks;
	stats->wrong += cache->stats.wrong;
	stats->failed += cache->stats.failed;
}

int path_init(size_t depth_max)
{
	if (!begin())
		return -ENOENT;
	int saved_errno = errno;
	walk_init(depth_max); /* without libunwind a few paths end early, counted as failed */
	path_modules_refresh();
	module_suspect();
	errno = saved_errno;
	return 0;
}
