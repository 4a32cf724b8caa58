/* What changes a tree of candidates: paths that are new, paths through code that has gone. Only at misses. */
#include "core/path/tree.h"

#include <string.h>
#include <sys/mman.h>

#define FULL_SHARE                                                                                                     \
	8 /* a smaller table grows when so much of it is taken: what is asked at every call should lie first */

bool tree_guess_holds(const struct tree_run *run, const uint8_t *base)
{
	uintptr_t rbp = *(const uintptr_t *)(base + run->guess_slot);
	return !walk_frame_pointer_plausible((uintptr_t)base + (uintptr_t)(intptr_t)run->guess_sp, rbp);
}

/* The place of the run that `word` leads to from `owner`, or the empty one where the search ends. */
static uint32_t *place_of(const struct tree *tree, uint64_t word, uint32_t owner)
{
	for (uint32_t at = tree_hash(tree, word, owner);; at = (at + 1) & tree->mask) {
		const uint32_t *place = &tree->table[at];
		if (tree_is_led_to(tree_run_at(tree, *place), word, owner) || !*place)
			return (uint32_t *)place;
	}
}

/* What `link` leads to. */
static struct tree_run *run_or_none(const struct tree *tree, uint32_t link)
{
	return link ? tree_run_at(tree, link) : NULL;
}

/* What was found comes first from now on: no place between the two is empty, so that both are found still. */
struct tree_run *tree_root_other(struct tree *tree, uint64_t word, uint32_t owner)
{
	uint32_t *first = &tree->table[tree_hash(tree, word, owner)], *place = place_of(tree, word, owner),
		 link = *place;
	if (link) {
		*place = *first;
		*first = link;
	}
	return run_or_none(tree, link);
}

/* The bits of a word that stand beside a link in a run's ways. */
static uint32_t way_bits(uint64_t word)
{
	return (uint32_t)(word ^ word >> 15) * TREE_BYTES;
}

struct tree_run *tree_way_other(const struct tree *tree, struct tree_run *run, uint64_t word)
{
	uint32_t bits = way_bits(word), owner = tree_link_of(tree, run);
	for (int i = 1; i < TREE_WAYS; i++) {
		uint32_t to = run->way[i] ^ bits;
		if (to < TREE_BYTES && tree_is_led_to(tree_run_at(tree, to), word, owner))
			return tree_run_at(tree, to);
	}
	uint32_t to = *place_of(tree, word, owner);
	if (to) {
		run->way[2] = run->way[1];
		run->way[1] = run->way[0];
		run->way[0] = to | bits;
	}
	return run_or_none(tree, to);
}

/* Checks one after the other, as a walk has them. */
struct checks {
	const int32_t *offset;
	const uint64_t *value;
	size_t count;
};

static struct checks checks_after(struct checks all, size_t first)
{
	return (struct checks){all.offset + first, all.value + first, all.count - first};
}

/* Behind the last chunk. */
static uint8_t *run_pointer_bits(const struct tree_run *run)
{
	return (uint8_t *)run->chunk + run->units * TREE_UNIT;
}

/* What a run holds, until the next is unpacked. */
static struct checks run_unpack(struct tree *tree, const struct tree_run *run)
{
	const uint8_t *bits = run_pointer_bits(run);
	size_t count = 0, chunks = run->units * TREE_UNIT / sizeof(struct tree_chunk);
	bool few = chunks * TREE_CHUNK <= TREE_FEW_CHECKS;
	int32_t *offset = few ? tree->few_checks.offset : tree->checks.offset;
	uint64_t *value = few ? tree->few_checks.value : tree->checks.value;
	for (size_t i = 0; i < chunks; i++) {
		const struct tree_chunk *chunk = &run->chunk[i];
		for (size_t k = 0; k < TREE_CHUNK && (!k || chunk->offset[k] != chunk->offset[k < 2 ? 0 : k - 2]);
		     k++) {
			int32_t pointer = run->has_pointers && bits[count / 8] >> count % 8 & 1 ? WALK_POINTER : 0;
			offset[count] = chunk->offset[k] | pointer;
			value[count++] = chunk->value[k];
		}
	}
	return (struct checks){offset, value, count};
}

static int32_t place_offset(int32_t offset)
{
	return offset & ~(int32_t)WALK_POINTER;
}

/* Which of `count` checks stands in place k of their last chunk: where they leave room some are repeated. */
static always_inline size_t check_at(size_t k, size_t count)
{
	size_t repeated = k < 2 || k - 2 >= count ? 0 : k - 2;
	return k < count ? k : repeated;
}

/* With the first `count` of `checks`. True: some are of frame pointers. */
static always_inline bool chunk_fill(struct tree_chunk *chunk, struct checks checks, size_t count)
{
	int32_t offsets = 0;
#pragma GCC unroll 4
	for (size_t k = 0; k < TREE_CHUNK; k++) {
		size_t from = check_at(k, count);
		offsets |= checks.offset[from];
		chunk->offset[k] = place_offset(checks.offset[from]);
		chunk->value[k] = checks.value[from];
	}
	return offsets & WALK_POINTER;
}

static size_t chunks_for(size_t checks)
{
	return (checks + TREE_CHUNK - 1) / TREE_CHUNK;
}

static void run_fill(struct tree_run *run, struct checks checks)
{
	struct tree_chunk *chunk = run->chunk;
	bool pointers = false;
	struct checks rest = checks;
	for (; rest.count >= TREE_CHUNK; rest = checks_after(rest, TREE_CHUNK))
		pointers |= chunk_fill(chunk++, rest, TREE_CHUNK);
	if (rest.count)
		pointers |= chunk_fill(chunk++, rest, rest.count);
	run->units = (uint16_t)((size_t)(chunk - run->chunk) * sizeof *chunk / TREE_UNIT);
	run->has_pointers = pointers;
	run->is_plain = !run->branch && run->guess_slot < 0;
	if (!pointers)
		return;
	uint8_t *bits = run_pointer_bits(run);
	size_t count = (size_t)(chunk - run->chunk) * TREE_CHUNK;
	memset(bits, 0, (count + 7) / 8);
	for (size_t i = 0; i < count; i++) {
		size_t k = i % TREE_CHUNK, first = i - k, from = first + check_at(k, checks.count - first);
		bits[i / 8] |= (uint8_t)((checks.offset[from] & WALK_POINTER) << i % 8);
	}
}

static size_t bit_units(size_t checks)
{
	return (checks + 8 * TREE_UNIT - 1) / (8 * TREE_UNIT);
}

/* At most. The rest of a run never takes more than the run. */
static size_t bytes_for(size_t checks)
{
	return sizeof(struct tree_run) + chunks_for(checks) * sizeof(struct tree_chunk) + bit_units(checks) * TREE_UNIT;
}

static struct tree_run *run_make(struct tree *tree, uint64_t word, uint32_t owner, int32_t branch, struct checks checks)
{
	struct tree_run *run = tree_run_at(tree, TREE_FIRST + tree->used);
	*run = (struct tree_run){.word = word, .owner = owner, .branch = branch, .guess_slot = branch ? 0 : -1};
	run_fill(run, checks);
	size_t behind = run->has_pointers ? bit_units(checks.count) : 0;
	tree->used += (uint32_t)(sizeof *run + (run->units + behind) * TREE_UNIT);
	return run;
}

static void run_end(struct tree_run *run, const struct walk *walk, uint32_t answer)
{
	run->answer = answer;
	run->guess_slot = walk->guessed ? walk->guess_slot : -1;
	if (walk->guessed)
		run->guess_sp = walk->guess_sp;
	else
		run->beyond = walk->beyond;
	run->is_plain = !walk->guessed;
}

static void run_put(struct tree *tree, const struct tree_run *run)
{
	uint32_t *place = place_of(tree, run->word, run->owner);
	tree->places += !*place;
	*place = tree_link_of(tree, run);
}

/* To twice its size. False: there is no memory. */
static bool table_grow(struct tree *tree)
{
	uint32_t count = tree->mask ? tree->mask + 1 : 0;
	size_t bytes = round_up(count * sizeof(uint32_t), 4096);
	uint32_t *had = NULL;
	if (count) {
		had = base_map(bytes);
		if (!had)
			return false;
		memcpy(had, tree->table, count * sizeof *had);
		memset(tree->table, 0, count * sizeof *had);
	}
	tree->mask = (count ? 2 * count : TREE_TABLE_FIRST) - 1;
	tree->places = 0;
	for (uint32_t i = 0; i < count; i++)
		if (had[i] >= TREE_FIRST)
			run_put(tree, tree_run_at(tree, had[i]));
	if (had)
		munmap(had, bytes);
	return true;
}

/* For three runs more, of so many bytes. */
static bool has_room(struct tree *tree, size_t bytes)
{
	while (tree->mask + 1 < TREE_TABLE && (tree->places + 3) * FULL_SHARE > tree->mask + 1)
		if (!table_grow(tree))
			break;
	return TREE_FIRST + tree->used + bytes <= TREE_BYTES && tree->mask &&
	       tree->places + 3 <= (tree->mask + 1) / 4 * 3;
}

/*
 * `walk` leaves `run` at its check `at`, where another value stands: what both have in common becomes a run of its own,
 * the rest of `run` stays in its place, since those after it name it as their owner. Returns the common one.
 */
static struct tree_run *run_split(struct tree *tree, struct tree_run *run, struct checks held, size_t at)
{
	struct checks before = {held.offset, held.value, at};
	struct tree_run *common = run_make(tree, run->word, run->owner, held.offset[at], before);
	run_put(tree, common); /* in the place of `run` */
	run->word = held.value[at];
	run->owner = tree_link_of(tree, common);
	run_fill(run, checks_after(held, at + 1));
	run_put(tree, run);
	return common;
}

void tree_insert(struct tree *tree, const uintptr_t *fp, uint32_t root_owner, const struct walk *walk, uint32_t answer)
{
	struct checks rest = {walk->offsets, walk->values, walk->checks};
	size_t room = bytes_for(rest.count) * 2;
	if (!has_room(tree, room))
		tree_clear(tree);
	if (!has_room(tree, room))
		return;
	uint64_t word = fp[1];
	uint32_t owner = root_owner;
	for (;;) {
		uint32_t link = *place_of(tree, word, owner);
		if (!link)
			break;
		struct tree_run *run = tree_run_at(tree, link);
		struct checks held = run_unpack(tree, run);
		size_t same = 0;
		while (same < held.count && same < rest.count && held.offset[same] == rest.offset[same] &&
		       held.value[same] == rest.value[same])
			same++;
		bool ends = same == rest.count, whole = same == held.count;
		if (whole && ends && !run->branch) {
			run_end(run, walk, answer);
			return;
		}
		/* The same words lead on differently than they did: the old way is no more (a module came, a guess failed). */
		int32_t next = whole ? run->branch : held.offset[same];
		if (ends || rest.offset[same] != next) {
			tree_remove(tree, run);
			break;
		}
		if (!whole)
			run = run_split(tree, run, held, same);
		word = rest.value[same];
		owner = tree_link_of(tree, run);
		rest = checks_after(rest, same + 1);
	}
	struct tree_run *run = run_make(tree, word, owner, 0, rest);
	run_end(run, walk, answer);
	run_put(tree, run);
}

/* Its frame pointers moved by so many bytes. */
static void move_pointers(const struct walk *walk, uintptr_t by)
{
	for (size_t i = 0; i < walk->checks; i++)
		if (walk->offsets[i] & WALK_POINTER)
			walk->values[i] += by;
}

void tree_insert_at_any_depth(struct tree *tree, const uintptr_t *fp, uint32_t root_owner, const struct walk *walk,
			      uint32_t answer)
{
	move_pointers(walk, -(uintptr_t)fp);
	tree_insert(tree, fp, root_owner, walk, answer);
	move_pointers(walk, (uintptr_t)fp);
}

/* tree_run_holds where frame pointers count from `base`. */
static __attribute__((noinline)) bool pointers_hold(const struct tree_run *run, const uint8_t *base)
{
	const uint8_t *bits = run_pointer_bits(run);
	const struct tree_chunk *chunk = run->chunk, *end = (const void *)bits;
	for (size_t i = 0; chunk != end; chunk++)
		for (size_t k = 0; k < TREE_CHUNK; k++, i++) {
			uintptr_t from = bits[i / 8] >> i % 8 & 1 ? (uintptr_t)base : 0;
			if (tree_word(base, chunk->offset[k]) - from != chunk->value[k])
				return false;
		}
	return true;
}

const struct tree_run *tree_find_at_any_depth(struct tree *tree, const uintptr_t *fp, uint32_t root_owner)
{
	const uint8_t *base = (const uint8_t *)fp;
	struct tree_run *run = tree_root(tree, fp[1], root_owner);
	for (;;) {
		if (unlikely(!run) ||
		    unlikely(run->has_pointers ? !pointers_hold(run, base) : !tree_run_holds(run, base)))
			return NULL;
		if (likely(run->is_plain))
			return run;
		uint64_t word = tree_word(base, run->branch);
		if (unlikely(run->branch & WALK_POINTER))
			word -= (uintptr_t)base;
		run = tree_way(tree, run, word);
	}
}

/* Whether a run's word is a return address. */
static bool word_is_pc(const struct tree *tree, const struct tree_run *run)
{
	return run->owner & TREE_ROOT || !(tree_run_at(tree, run->owner)->branch & WALK_POINTER);
}

size_t tree_path(struct tree *tree, const struct tree_run *run, uintptr_t *pcs, size_t max)
{
	size_t count = 0;
	/* From the end inwards, since runs know who comes before; turned round afterwards. */
	for (;; run = tree_run_at(tree, run->owner)) {
		struct checks held = run_unpack(tree, run);
		while (held.count--)
			if (!(held.offset[held.count] & WALK_POINTER) && held.value[held.count] && count < max)
				pcs[count++] = held.value[held.count];
		if (word_is_pc(tree, run) && run->word && count < max)
			pcs[count++] = run->word;
		if (run->owner & TREE_ROOT)
			break;
	}
	for (size_t i = 0; i < count / 2; i++) {
		uintptr_t pc = pcs[i];
		pcs[i] = pcs[count - 1 - i];
		pcs[count - 1 - i] = pc;
	}
	return count;
}

/* Neither the table nor the run before it leads there any more. */
static void run_forget(uint32_t *place, struct tree_run *run)
{
	*place = TREE_REMOVED;
	run->owner = UINT32_MAX;
}

void tree_remove(struct tree *tree, const struct tree_run *run)
{
	uint32_t *place = place_of(tree, run->word, run->owner);
	if (*place)
		run_forget(place, tree_run_at(tree, *place));
}

static bool run_touches(struct tree *tree, const struct tree_run *run, uintptr_t start, uintptr_t end)
{
	if (word_is_pc(tree, run) && run->word > start && run->word <= end)
		return true;
	struct checks held = run_unpack(tree, run);
	for (size_t i = 0; i < held.count; i++)
		if (!(held.offset[i] & WALK_POINTER) && held.value[i] > start && held.value[i] <= end)
			return true;
	return false;
}

void tree_drop_range(struct tree *tree, uintptr_t start, uintptr_t end)
{
	for (uint32_t at = 0; at <= tree->mask && tree->used; at++) {
		uint32_t link = tree->table[at];
		if (link >= TREE_FIRST && run_touches(tree, tree_run_at(tree, link), start, end))
			run_forget(&tree->table[at], tree_run_at(tree, link));
	}
}

void tree_clear(struct tree *tree)
{
	if (tree->used)
		memset(tree->table, 0, (tree->mask + 1) * sizeof tree->table[0]);
	tree->used = tree->places = 0;
}
