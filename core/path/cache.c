/*
 * The verified call-path cache (DESIGN §6). A key of return address and stack depth leads to candidates; a candidate is
 * a list of checks (walk.h) that, all true, leave no other path possible: the first return address is in the key, each
 * place is fixed by the checks before it. Unmapped code drops its candidates before the next answer. One thread uses a
 * cache; a signal handler that finds it in use walks without it.
 */
#include "core/path/path.h"

#include <errno.h>
#include <string.h>

#include "core/path/cfi.h"
#include "core/path/module.h"
#include "core/path/walk.h"

#define HEADS_BITS 13
#define HEADS (1u << HEADS_BITS)
#define HALF_BYTES (960u << 10) /* the arena has two halves: when both are full the older one is emptied */
#define SAMPLE_MASK 4095u
#define BUSY UINT32_MAX

struct entry {
	uintptr_t ra; /* tagged */
	uint32_t next; /* offset in the arena + 1, 0 = last */
	uint32_t value;
	uint16_t checks;
	uint16_t key; /* low bits of the frame address */
	uint8_t has_relative, guessed;
	uint16_t head;
	int32_t guess_slot, guess_sp;
	uint64_t values[]; /* then int32_t offsets[checks] */
};

struct path_cache {
	uint32_t ready; /* the module epoch it agrees with; 0 = new, BUSY = in use */
	uint32_t half; /* that is being filled */
	struct path_stats stats;
	uint32_t used[2];
	uint32_t unloads; /* module_unloads when last looked at */
	bool nested;
	uint32_t heads[HEADS];
	uintptr_t pcs[2][PATH_DEPTH_MAX]; /* [1] for a signal handler */
	int32_t offsets[WALK_CHECKS_MAX];
	uint64_t values[WALK_CHECKS_MAX];
	_Alignas(64) uint8_t arena[2 * HALF_BYTES];
};

static inline struct entry *entry_at(struct path_cache *cache, uint32_t link)
{
	return (struct entry *)(cache->arena + (link - 1));
}

static inline const int32_t *entry_offsets(const struct entry *entry)
{
	return (const int32_t *)(entry->values + entry->checks);
}

static inline uint16_t key_of(const uintptr_t *fp)
{
	return (uint16_t)((uintptr_t)fp >> 3);
}

/* The tag is part of the return address as a key, in bits that no address of a program has. */
static inline uintptr_t tagged(uintptr_t ra, uint32_t tag)
{
	return ra | (uintptr_t)tag << 56;
}

static inline uintptr_t untagged(uintptr_t ra)
{
	return ra & ~((uintptr_t)0xff << 56);
}

static inline uint32_t head_of(uintptr_t ra, uint16_t key)
{
	return (uint32_t)((ra ^ (uintptr_t)key << 40) * 0x9e3779b97f4a7c15u >> (64 - HEADS_BITS));
}

/* Cost: a load and a compare for each frame. Stops at the first difference: what lies beyond may not be stack. */
static inline bool entry_matches(const struct entry *entry, const uintptr_t *fp)
{
	const int32_t *offsets = entry_offsets(entry);
	const uint8_t *base = (const uint8_t *)fp;
	size_t count = entry->checks;
	if (likely(!entry->has_relative)) {
		for (size_t i = 0; i < count; i++)
			if (*(const uint64_t *)(base + offsets[i]) != entry->values[i])
				return false;
	} else {
		for (size_t i = 0; i < count; i++) {
			uint64_t relative = (uint64_t)(offsets[i] & WALK_RELATIVE);
			uint64_t value = *(const uint64_t *)(base + ((uint64_t)(int64_t)offsets[i] - relative));
			if (value - ((uintptr_t)base & -relative) != entry->values[i])
				return false;
		}
	}
	if (unlikely(entry->guessed)) {
		uintptr_t rbp = *(const uintptr_t *)(base + entry->guess_slot);
		return !walk_frame_pointer_plausible((uintptr_t)base + (uintptr_t)(intptr_t)entry->guess_sp, rbp);
	}
	return true;
}

static inline struct entry *find(struct path_cache *cache, const uintptr_t *fp, uint32_t tag)
{
	uintptr_t ra = tagged(fp[1], tag);
	uint16_t key = key_of(fp);
	uint32_t *head = &cache->heads[head_of(ra, key)];
	for (uint32_t *link = head; *link;) {
		struct entry *entry = entry_at(cache, *link);
		if (likely(entry->ra == ra && entry->key == key) && entry_matches(entry, fp)) {
			if (unlikely(link != head)) { /* most recent first */
				uint32_t self = *link;
				*link = entry->next;
				entry->next = *head;
				*head = self;
			}
			return entry;
		}
		link = &entry->next;
	}
	return NULL;
}

/* ---- what goes and comes ---------------------------------------------------------------------------------------- */

static void unlink_entry(struct path_cache *cache, const struct entry *gone)
{
	for (uint32_t *link = &cache->heads[gone->head]; *link; link = &entry_at(cache, *link)->next)
		if (entry_at(cache, *link) == gone) {
			*link = gone->next;
			return;
		}
}

static bool entry_in_half(const struct path_cache *cache, const struct entry *entry, const void *half)
{
	(void)cache;
	return (const uint8_t *)entry - (const uint8_t *)half < (ptrdiff_t)HALF_BYTES && (const void *)entry >= half;
}

static bool entry_touches(const struct path_cache *cache, const struct entry *entry, const void *context)
{
	(void)cache;
	const struct module_range *range = context;
	if (untagged(entry->ra) > range->start && untagged(entry->ra) <= range->end)
		return true;
	const int32_t *offsets = entry_offsets(entry);
	for (size_t i = 0; i < entry->checks; i++)
		if (!(offsets[i] & WALK_RELATIVE) && entry->values[i] > range->start && entry->values[i] <= range->end)
			return true;
	return false;
}

typedef bool (*entry_test)(const struct path_cache *, const struct entry *, const void *);

static void drop(struct path_cache *cache, entry_test test, const void *context)
{
	for (uint32_t head = 0; head < HEADS; head++)
		for (uint32_t *link = &cache->heads[head]; *link;) {
			struct entry *entry = entry_at(cache, *link);
			if (test(cache, entry, context))
				*link = entry->next;
			else
				link = &entry->next;
		}
}

/* Room for an entry; empties the older half when both are full. */
static struct entry *entry_room(struct path_cache *cache, size_t bytes)
{
	if (cache->used[cache->half] + bytes > HALF_BYTES) {
		cache->half ^= 1;
		if (cache->used[cache->half])
			drop(cache, entry_in_half, cache->arena + cache->half * HALF_BYTES);
		cache->used[cache->half] = 0;
	}
	struct entry *entry = (struct entry *)(cache->arena + cache->half * HALF_BYTES + cache->used[cache->half]);
	cache->used[cache->half] += (uint32_t)bytes;
	return entry;
}

static void insert(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, const struct walk *walk, uint32_t value)
{
	size_t bytes = sizeof(struct entry) + walk->checks * (sizeof(uint64_t) + sizeof(int32_t));
	struct entry *entry = entry_room(cache, round_up(bytes, 8));
	uint16_t key = key_of(fp);
	uintptr_t ra = tagged(fp[1], tag);
	uint32_t head = head_of(ra, key);
	*entry = (struct entry){.ra = ra,
				.next = cache->heads[head],
				.value = value,
				.checks = (uint16_t)walk->checks,
				.key = key,
				.has_relative = walk->has_relative,
				.guessed = walk->guessed,
				.head = (uint16_t)head,
				.guess_slot = walk->guess_slot,
				.guess_sp = walk->guess_sp};
	memcpy(entry->values, walk->values, walk->checks * sizeof walk->values[0]);
	memcpy(entry->values + walk->checks, walk->offsets, walk->checks * sizeof walk->offsets[0]);
	cache->heads[head] = (uint32_t)((uint8_t *)entry - cache->arena) + 1;
}

/* Agrees with what is mapped now; other candidates stay. */
static uint32_t agree(struct path_cache *cache)
{
	path_modules_refresh();
	uint32_t epoch = atomic_load(&module_epoch), unloads = atomic_load(&module_unloads);
	if (unloads - cache->unloads > MODULE_UNLOADS_KEPT / 2) { /* older ranges may be being overwritten */
		memset(cache->heads, 0, sizeof cache->heads);
		cache->used[0] = cache->used[1] = 0;
	} else {
		for (; cache->unloads != unloads; cache->unloads++) {
			struct module_range range = module_unloaded_range(cache->unloads);
			drop(cache, entry_touches, &range);
		}
	}
	cache->unloads = unloads;
	return epoch;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static uint32_t intern_barred(path_intern_fn intern, const struct walk *walk, uint32_t tag)
{
	bool barred = module_refresh_barred;
	module_refresh_barred = true;
	uint32_t value = intern(walk->pcs, walk->count, walk->cut, tag);
	module_refresh_barred = barred;
	return value;
}

static struct walk walk_of(struct path_cache *cache)
{
	return (struct walk){
		.pcs = cache->pcs[0], .max = PATH_DEPTH_MAX, .offsets = cache->offsets, .values = cache->values};
}

/* A handler interrupted a use of this cache. */
static uint32_t value_nested(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	uintptr_t caller = fp[1];
	struct walk walk = {.pcs = &caller, .count = 1, .cut = true, .max = PATH_DEPTH_MAX};
	if (cache->nested) /* a handler within a handler: its caller only */
		return intern_barred(intern, &walk, tag);
	cache->nested = true;
	walk.pcs = cache->pcs[1];
	walk_run(fp, &walk);
	uint32_t value = intern_barred(intern, &walk, tag);
	cache->stats.captures++;
	cache->nested = false;
	return value;
}

static cold_path uint32_t value_miss(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	struct walk walk = walk_of(cache);
	bool by_loader = module_is_loader(fp[1]);
	if (by_loader)
		path_modules_refresh();
	walk_run(fp, &walk);
	cache->stats.captures++;
	cache->stats.failed += walk.failed;
	uint32_t value = intern_barred(intern, &walk, tag);
	/* The loader allocates whenever it maps: its own calls are never cached, so each of them comes by here and makes
	   every cache look at the modules again. */
	if (by_loader)
		module_suspect();
	else if (walk.cacheable)
		insert(cache, fp, tag, &walk, value);
	return value;
}

static bool entry_is(const struct entry *entry, const struct walk *walk)
{
	const int32_t *offsets = entry_offsets(entry);
	size_t count = 1;
	if (!walk->count || walk->pcs[0] != untagged(entry->ra))
		return false;
	for (size_t i = 0; i < entry->checks; i++) {
		if (offsets[i] & WALK_RELATIVE || !entry->values[i])
			continue;
		if (count == walk->count || walk->pcs[count++] != entry->values[i])
			return false;
	}
	return count == walk->count;
}

/* A sampled hit: would a full walk have said the same? */
static cold_path uint32_t value_recheck(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern,
					struct entry *entry)
{
	struct walk walk = walk_of(cache);
	walk_run(fp, &walk);
	cache->stats.checks++;
	if (entry_is(entry, &walk))
		return entry->value;
	cache->stats.wrong++;
	unlink_entry(cache, entry);
	return value_miss(cache, fp, tag, intern);
}

static cold_path uint32_t value_slow(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	int saved_errno = errno;
	uint32_t epoch = atomic_load(&module_epoch), value;
	if (epoch == MODULE_NOT_STARTED) {
		uintptr_t caller = fp[1];
		value = intern(&caller, 1, false, tag);
	} else if (cache->ready == BUSY) {
		value = value_nested(cache, fp, tag, intern);
	} else {
		uint32_t ready = cache->ready;
		cache->ready = BUSY;
		atomic_signal_fence(memory_order_seq_cst);
		struct entry *entry = NULL;
		if (ready != epoch) {
			epoch = agree(cache);
			entry = find(cache, fp, tag);
		}
		cache->stats.hits += entry != NULL;
		value = entry ? entry->value : value_miss(cache, fp, tag, intern);
		atomic_signal_fence(memory_order_seq_cst);
		cache->ready = epoch;
	}
	errno = saved_errno;
	return value;
}

/* Cost on a hit: one load of the epoch, a hash, a load and a compare for each frame, three stores to one line that is
   the thread's own. No system call, no atomic read-modify-write. */
uint32_t path_value(struct path_cache *cache, const uintptr_t *fp, uint32_t tag, path_intern_fn intern)
{
	uint32_t epoch = atomic_load_explicit(&module_epoch, memory_order_acquire);
	if (unlikely(cache->ready != epoch))
		return value_slow(cache, fp, tag, intern);
	cache->ready = BUSY;
	atomic_signal_fence(memory_order_seq_cst);
	struct entry *entry = find(cache, fp, tag);
	uint32_t value = 0;
	if (likely(entry != NULL)) {
		value = entry->value;
		if (unlikely(!(++cache->stats.hits & SAMPLE_MASK))) {
			int saved_errno = errno;
			value = value_recheck(cache, fp, tag, intern, entry);
			errno = saved_errno;
		}
	}
	atomic_signal_fence(memory_order_seq_cst);
	cache->ready = epoch;
	return likely(entry != NULL) ? value : value_slow(cache, fp, tag, intern);
}

size_t path_capture(const uintptr_t *fp, uintptr_t *pcs, size_t max, bool *cut)
{
	int saved_errno = errno;
	struct walk walk = {.pcs = pcs, .max = max};
	if (atomic_load(&module_epoch) == MODULE_NOT_STARTED) {
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

size_t path_cache_bytes(void)
{
	return round_up(sizeof(struct path_cache), 4096);
}

void path_cache_stats(const struct path_cache *cache, struct path_stats *stats)
{
	stats->captures += cache->stats.captures;
	stats->hits += cache->stats.hits;
	stats->checks += cache->stats.checks;
	stats->wrong += cache->stats.wrong;
	stats->failed += cache->stats.failed;
}

int path_init(size_t depth_max)
{
	if (atomic_load(&module_epoch) != MODULE_NOT_STARTED)
		return 0;
	int saved_errno = errno, error = cfi_init();
	if (!error)
		error = module_init();
	if (!error) {
		walk_init(depth_max); /* without libunwind a few paths end early, counted as failed */
		path_modules_refresh();
		module_suspect();
	}
	errno = saved_errno;
	return error;
}
