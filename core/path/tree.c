/* What changes a tree of candidates: paths that are new, paths through code that has gone. Only at misses. */
#include "core/path/tree.h"

#include <string.h>
#include <sys/mman.h>

#include "core/path/run.h"

#define TAIL_STEP 512u /* bytes of stack */
#define TAIL_CHECKS_MIN 8u /* a shorter one saves nothing */
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

/* What a run holds, until the next is unpacked: its own checks, then its tail's. `own`: how many are its own, or NULL. */
static struct checks run_unpack(struct tree *tree, const struct tree_run *run, size_t *own)
{
	const struct tree_run *tail = run->has_tail ? tree_run_at(tree, run->tail) : NULL;
	bool few = (run_chunks(run) + (tail ? run_chunks(tail) : 0)) * TREE_CHUNK <= TREE_FEW_CHECKS;
	int32_t *offset = few ? tree->few_checks.offset : tree->checks.offset;
	uint64_t *value = few ? tree->few_checks.value : tree->checks.value;
	size_t count = run_checks(run, 0, offset, value);
	if (own)
		*own = count;
	if (tail)
		count += run_checks(tail, run->tail_at, offset + count, value + count);
	return (struct checks){offset, value, count, 0};
}

static struct tree_run *run_make(struct tree *tree, uint64_t word, uint32_t owner, int32_t branch, struct checks checks)
{
	struct tree_run *run = tree_run_at(tree, TREE_FIRST + tree->used);
	*run = (struct tree_run){
		.word = word, .owner = owner, .branch = branch, .is_plain = !branch, .guess_slot = branch ? 0 : -1};
	tree->used += (uint32_t)run_fill(run, checks);
	return run;
}

static void run_end(struct tree_run *run, const struct walk *walk, uint32_t answer)
{
	run->answer = answer;
	if (run->has_tail) /* it has neither of these */
		return;
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
	base_fill(tree->table, (tree->mask + 1) * sizeof *tree->table);
	tree->places = 0;
	for (uint32_t i = 0; i < count; i++)
		if (had[i] >= TREE_FIRST)
			run_put(tree, tree_run_at(tree, had[i]));
	if (had)
		munmap(had, bytes);
	return true;
}

/* For five runs more, of so many bytes. */
static bool has_room(struct tree *tree, size_t bytes)
{
	while (tree->mask + 1 < TREE_TABLE && (tree->places + 5) * FULL_SHARE > tree->mask + 1)
		if (!table_grow(tree))
			break;
	tree->filled = (uint32_t)base_fill_ahead(tree, TREE_FIRST + tree->used, tree->filled, TREE_BYTES);
	return TREE_FIRST + tree->used + bytes <= TREE_BYTES && tree->mask &&
	       tree->places + 5 <= (tree->mask + 1) / 4 * 3;
}

static uint64_t checks_hash(struct checks checks)
{
	uint64_t hash = 0;
	for (size_t i = 0; i < checks.count; i++) {
		uint64_t place = (uint32_t)(checks.offset[i] - checks.from);
		hash = (hash ^ checks.value[i] ^ place << 32) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
	}
	return hash;
}

/* The tail that holds these, whose first offset they count from; one more, if there is none. 0: others have the same hash. */
static uint32_t tail_link(struct tree *tree, struct checks checks)
{
	uint64_t hash = checks_hash(checks);
	const struct tree_run *known = run_or_none(tree, *place_of(tree, hash, TREE_TAIL));
	uint32_t used = tree->used;
	const struct tree_run *made = run_make(tree, hash, TREE_TAIL, 0, checks);
	if (!known) {
		run_put(tree, made);
		return tree_link_of(tree, made);
	}
	bool same = !memcmp(made, known, tree->used - used);
	tree->used = used;
	return same ? tree_link_of(tree, known) : 0;
}

void tree_forget_last(struct tree *tree)
{
	memset(tree->last_tail, 0, sizeof tree->last_tail);
}

/* Of the tails of the last path, those stay that `walk` ends with as well. */
static void last_tails_keep(struct tree *tree, const struct walk *walk)
{
	for (size_t i = 0; i < TREE_LAST_TAILS; i++)
		if (tree->last_tail[i].checks > walk->common)
			tree->last_tail[i].checks = 0;
}

/* The tail of so many checks, more than none, of the path that is put in. 0: it is not known. */
static uint32_t last_tail_of(const struct tree *tree, size_t checks)
{
	for (size_t i = 0; i < TREE_LAST_TAILS; i++)
		if (tree->last_tail[i].checks == checks)
			return tree->last_tail[i].link;
	return 0;
}

static void last_tail_note(struct tree *tree, size_t checks, uint32_t link)
{
	uint32_t at = tree->last_tail_next++ % TREE_LAST_TAILS;
	tree->last_tail[at].checks = (uint32_t)checks;
	tree->last_tail[at].link = link;
}

/* How many of the checks, which follow from the word at `slot`, come before their tail. That begins with the first one beyond
   the next multiple of TAIL_STEP, so that paths with these callers find the same, however they go on from there. */
static size_t before_tail(const uint8_t *base, int32_t slot, struct checks checks)
{
	const uint8_t *beyond = base + slot;
	beyond += TAIL_STEP - (uintptr_t)beyond % TAIL_STEP;
	size_t before = 0;
	while (before < checks.count && base + checks_place(checks.offset[before]) < beyond)
		before++;
	return checks.count - before < TAIL_CHECKS_MIN ? checks.count : before;
}

/* Where a path is to end that leads on from its owner by `word`. */
struct leaf {
	uint64_t word;
	uint32_t owner;
	int32_t slot; /* offset that the word was read at */
	const uint8_t *base; /* what offsets count from; NULL: it is to have no tail */
	bool is_now; /* its checks are what the stack holds, all of it */
};

static struct tree_run *leaf_put(struct tree *tree, struct leaf leaf, struct checks checks)
{
	size_t own = leaf.base ? before_tail(leaf.base, leaf.slot, checks) : checks.count;
	uint32_t tail = 0;
	int32_t tail_at = 0;
	if (own < checks.count) {
		struct checks shared = checks_after(checks, own);
		shared.from = tail_at = checks_place(shared.offset[0]);
		tail = leaf.is_now ? last_tail_of(tree, shared.count) : 0;
		fa_assert(!tail || tail == tail_link(tree, shared));
		if (!tail) {
			tail = tail_link(tree, shared);
			if (leaf.is_now)
				last_tail_note(tree, shared.count, tail);
		}
	}
	struct tree_run *run = run_make(tree, leaf.word, leaf.owner, 0, tail ? checks_before(checks, own) : checks);
	if (tail) {
		run->has_tail = true;
		run->is_plain = false;
		run->tail_at = tail_at;
		run->tail = tail;
	}
	run_put(tree, run);
	return run;
}

/*
 * A walk leaves `run` at its check `at`, where another value stands: what both have in common becomes a run of its own,
 * the rest of `run` stays in its place, since those after it name it as their owner. Returns the common one.
 */
static struct tree_run *run_split(struct tree *tree, struct tree_run *run, const uint8_t *base, struct checks held,
				  size_t own, size_t at)
{
	struct tree_run *common = run_make(tree, run->word, run->owner, held.offset[at], checks_before(held, at));
	run_put(tree, common); /* in the place of `run` */
	struct leaf rest = {held.value[at], tree_link_of(tree, common), checks_place(held.offset[at]), base, false};
	if (at >= own) { /* in its tail: nobody comes after, and there may be no room for more than it had of its own */
		run->owner = UINT32_MAX;
		leaf_put(tree, rest, checks_after(held, at + 1))->answer = run->answer;
		return common;
	}
	run->word = rest.word;
	run->owner = rest.owner;
	run_fill(run, checks_after(checks_before(held, own), at + 1));
	run_put(tree, run);
	return common;
}

void tree_insert(struct tree *tree, const uintptr_t *fp, uint32_t root_owner, const struct walk *walk, uint32_t answer)
{
	struct checks rest = {walk->offsets, walk->values, walk->checks, 0};
	size_t room = 3 * run_bytes(rest.count) + 2 * run_bytes(WALK_CHECKS_MAX);
	if (!has_room(tree, room))
		tree_clear(tree);
	if (!has_room(tree, room))
		return;
	last_tails_keep(tree, walk);
	bool any_depth = root_owner & TREE_ANY_DEPTH, ends_plain = !walk->guessed && !walk->beyond;
	struct leaf leaf = {any_depth ? fp[1] : tree_root_word(fp), root_owner, sizeof *fp,
			    ends_plain && !any_depth ? (const uint8_t *)fp : NULL, true};
	for (;;) {
		uint32_t link = *place_of(tree, leaf.word, leaf.owner);
		if (!link)
			break;
		struct tree_run *run = tree_run_at(tree, link);
		size_t own, same = 0;
		struct checks held = run_unpack(tree, run, &own);
		while (same < held.count && same < rest.count && held.offset[same] == rest.offset[same] &&
		       held.value[same] == rest.value[same])
			same++;
		bool ends = same == rest.count, whole = same == held.count;
		if (whole && ends && !run->branch && (!run->has_tail || ends_plain)) {
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
			run = run_split(tree, run, leaf.base, held, own, same);
		leaf.word = rest.value[same];
		leaf.owner = tree_link_of(tree, run);
		leaf.slot = checks_place(rest.offset[same]);
		rest = checks_after(rest, same + 1);
	}
	run_end(leaf_put(tree, leaf, rest), walk, answer);
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

/* The return address that a run's word is, or holds; 0: it is a frame pointer. A tail's, which is neither, is taken for one: what it
   may be dropped for is that no other path finds it. */
static uintptr_t pc_of(const struct tree *tree, const struct tree_run *run)
{
	if (run->owner & TREE_ROOT)
		return run->word & ((1ull << WALK_ADDRESS_BITS) - 1);
	return tree_run_at(tree, run->owner)->branch & WALK_POINTER ? 0 : run->word;
}

size_t tree_path(struct tree *tree, const struct tree_run *run, uintptr_t *pcs, size_t max)
{
	size_t count = 0;
	/* From the end inwards, since runs know who comes before; turned round afterwards. */
	for (;; run = tree_run_at(tree, run->owner)) {
		struct checks held = run_unpack(tree, run, NULL);
		while (held.count--)
			if (!(held.offset[held.count] & WALK_POINTER) && held.value[held.count] && count < max)
				pcs[count++] = held.value[held.count];
		uintptr_t pc = pc_of(tree, run);
		if (pc && count < max)
			pcs[count++] = pc;
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

/* The page of a check, as a bit from that of `fp` on; 0: it lies too far away for one. */
static uint64_t page_bit(const uintptr_t *fp, int32_t offset)
{
	uintptr_t slot = (uintptr_t)fp + (uintptr_t)(intptr_t)checks_place(offset);
	uintptr_t page = slot / PAGE_BYTES - (uintptr_t)fp / PAGE_BYTES;
	return page < 64 ? 1ull << page : 0;
}

uint64_t tree_pages(struct tree *tree, const struct tree_run *run, const uintptr_t *fp)
{
	uint64_t pages = 0;
	for (;; run = tree_run_at(tree, run->owner)) {
		struct checks held = run_unpack(tree, run, NULL);
		while (held.count--)
			pages |= page_bit(fp, held.offset[held.count]);
		if (run->owner & TREE_ROOT)
			break;
		pages |= page_bit(fp, tree_run_at(tree, run->owner)->branch);
	}
	return pages;
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

/* Whether what returns to `pc` lies there. */
static always_inline bool returns_into(uintptr_t pc, uintptr_t start, uintptr_t end)
{
	return pc - start - 1 < end - start;
}

/* A frame pointer that points there, which hardly is one, is taken for a return address. */
static bool run_touches(const struct tree_run *run, uintptr_t start, uintptr_t end)
{
	bool touches = false;
	for (size_t i = 0; i < run_chunks(run); i++)
		for (size_t k = 0; k < TREE_CHUNK; k++)
			touches |= returns_into(run->chunk[i].value[k], start, end);
	return touches;
}

static bool leads_through(const struct tree *tree, const struct tree_run *run, uintptr_t start, uintptr_t end)
{
	return returns_into(pc_of(tree, run), start, end) || run_touches(run, start, end) ||
	       (run->has_tail && run_touches(tree_run_at(tree, run->tail), start, end));
}

void tree_drop_range(struct tree *tree, uintptr_t start, uintptr_t end)
{
	for (uint32_t at = 0; at <= tree->mask && tree->used; at++) {
		uint32_t link = tree->table[at];
		if (link >= TREE_FIRST && leads_through(tree, tree_run_at(tree, link), start, end))
			run_forget(&tree->table[at], tree_run_at(tree, link));
	}
}

void tree_clear(struct tree *tree)
{
	if (tree->used)
		memset(tree->table, 0, (tree->mask + 1) * sizeof tree->table[0]);
	tree->used = tree->places = 0;
	tree_forget_last(tree);
}
