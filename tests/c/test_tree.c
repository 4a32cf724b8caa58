/* The tree of checks against a list of what was put in: stacks that come and go frame by frame, so that paths share callees,
   callers, or both. What no walk has proven to be a slot is poisoned.
   Sources: core/path/tree.c core/path/run.c core/base.c; libs: -pthread */
#define _GNU_SOURCE
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "core/path/tree.h"
#include "check.h"

#define WORDS 2048 /* of stack */
#define STACK_BYTES (WORDS * sizeof(uint64_t))
#define FRAMES 60
#define CODE 64 /* return addresses, from PC_BASE on, which is the outermost */
#define TWIN 30 /* code so far apart has the same unwind information */
#define PC_BASE 0x401000u
#define PATHS 40000

bool walk_frame_pointer_plausible(uintptr_t sp, uintptr_t rbp)
{
	(void)sp, (void)rbp;
	return false; /* each guess holds */
}

/* What is the same on two stacks are two paths, as their frame pointers are; a root tells their places by its owner, or its word. */
static const size_t stack_at[] = {0, 1u << 19, 1u << 27};
static uint8_t *stacks;
static uint64_t *stack;
static size_t return_at[FRAMES]; /* where each frame has its return address; the innermost is the last */
static size_t depth;
static uint64_t seed = 1;

static size_t up_to(size_t limit)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (size_t)(seed >> 33) % limit;
}

/* What unwind information would say of the code at a return address. */
static size_t frame_words(uintptr_t pc)
{
	return 3 + pc * 7 % 10;
}

static bool uses_rbp(uintptr_t pc)
{
	return pc % 3 == 0;
}

static bool saves_rbp(uintptr_t pc)
{
	return pc % 3 == 1;
}

static void all_readable(bool readable)
{
	for (size_t i = 0; i < sizeof stack_at / sizeof stack_at[0]; i++)
		if (readable)
			ASAN_UNPOISON_MEMORY_REGION(stacks + stack_at[i], STACK_BYTES);
		else
			ASAN_POISON_MEMORY_REGION(stacks + stack_at[i], STACK_BYTES);
}

static void stack_begin(void)
{
	all_readable(true);
	stack = (uint64_t *)(stacks + stack_at[up_to(3)]);
	memset(stack, 0, WORDS * sizeof *stack);
	depth = 1;
	return_at[0] = WORDS - 8;
	stack[return_at[0]] = PC_BASE;
}

static void pop(size_t frames)
{
	if (frames < depth)
		depth -= frames;
	else
		stack_begin();
}

static void push(void)
{
	uintptr_t pc = PC_BASE + 1 + up_to(depth < 4 ? 3 : CODE - 1);
	size_t outer = return_at[depth - 1];
	if (depth == FRAMES || outer < frame_words(pc) + 8)
		return;
	return_at[depth] = outer - frame_words(pc);
	stack[return_at[depth]] = pc;
	for (size_t at = return_at[depth] - 1; at <= return_at[depth] + 1; at += 2) /* rbp, or a local */
		stack[at] = (uint64_t)&stack[return_at[depth] + 2] + 16 * up_to(3);
	depth++;
}

/* One caller is another, from which the same lie further in. */
static void change_caller(void)
{
	size_t at = up_to(depth);
	uint64_t *pc = &stack[return_at[at]];
	if (*pc == PC_BASE)
		return;
	if (*pc < PC_BASE + CODE - TWIN)
		*pc += TWIN;
	else
		*pc -= TWIN;
	if (!up_to(3))
		pc[1] ^= 16;
}

/* As walk_run does it: the return address of the hook's frame is no check, it leads to the root. A frame pointer lies where it
   was saved last, perhaps far below the frame that uses it. */
struct path {
	uintptr_t pcs[FRAMES];
	int32_t offsets[2 * FRAMES];
	uint64_t values[2 * FRAMES];
	size_t count, checks;
	const uintptr_t *fp;
	uint32_t answer; /* 0: not in the tree */
	bool guessed;
	struct path *next; /* of those with the same `bucket` */
};

static uint64_t *slot_of(const struct path *path, size_t check)
{
	return (uint64_t *)((uintptr_t)path->fp + (uintptr_t)(intptr_t)(path->offsets[check] & ~WALK_POINTER));
}

static void check_add(struct path *path, const uint64_t *slot, int32_t kind)
{
	path->offsets[path->checks] = (int32_t)((uintptr_t)slot - (uintptr_t)path->fp) | kind;
	path->values[path->checks++] = *slot;
}

static void walk_now(struct path *path)
{
	*path = (struct path){.fp = (const uintptr_t *)&stack[return_at[depth - 1] - 1]};
	const uint64_t *slot = (const uint64_t *)path->fp + 1, *rbp = (const uint64_t *)path->fp;
	bool checked = false;
	path->pcs[path->count++] = *slot;
	while (*slot != PC_BASE) {
		const uint64_t *next = slot + frame_words(*slot);
		if (uses_rbp(*slot) && !checked)
			check_add(path, rbp, WALK_POINTER);
		checked |= uses_rbp(*slot);
		check_add(path, next, 0);
		if (saves_rbp(*slot)) {
			rbp = slot + 1;
			checked = false;
		}
		slot = next;
		path->pcs[path->count++] = *slot;
	}
}

/* What is being tested. */
static struct {
	bool any_depth; /* frame pointers count from the frame address, which is none of a path's */
	bool removes;
	unsigned guesses; /* one in so many */
} mode;
static struct tree *tree;
static size_t with_tail, alive, cleared, bytes_a_path;

static uint64_t value_of(const struct path *path, size_t check)
{
	bool relative = mode.any_depth && path->offsets[check] & WALK_POINTER;
	return path->values[check] - (relative ? (uint64_t)path->fp : 0);
}

static bool is_same(const struct path *a, const struct path *b)
{
	if ((!mode.any_depth && a->fp != b->fp) || a->count != b->count || a->checks != b->checks ||
	    memcmp(a->pcs, b->pcs, a->count * sizeof a->pcs[0]) ||
	    memcmp(a->offsets, b->offsets, a->checks * sizeof a->offsets[0]))
		return false;
	for (size_t i = 0; i < a->checks; i++)
		if (value_of(a, i) != value_of(b, i))
			return false;
	return true;
}

#define BUCKETS 4096
static struct path *paths[PATHS], *bucket[BUCKETS];
static size_t path_count;

static struct path **bucket_of(const struct path *path)
{
	uint64_t hash = 0;
	for (size_t i = 0; i < path->count; i++)
		hash = (hash + path->pcs[i]) * 0x9e3779b97f4a7c15u;
	return &bucket[hash >> 32 & (BUCKETS - 1)];
}

static struct path *known(const struct path *path)
{
	struct path **first = bucket_of(path), *made = malloc(sizeof *path);
	for (struct path *other = *first; other; other = other->next)
		if (is_same(other, path)) {
			free(made);
			return other;
		}
	memcpy(made, path, sizeof *path);
	made->next = *first;
	*first = made;
	return paths[path_count++] = made;
}

/* By the stack as it is; of its words only the first so many that a walk checks can be read. */
static const struct tree_run *look(const struct path *path, size_t readable)
{
	all_readable(false);
	ASAN_UNPOISON_MEMORY_REGION(path->fp, 2 * sizeof *path->fp);
	for (size_t i = 0; i < readable; i++)
		ASAN_UNPOISON_MEMORY_REGION(slot_of(path, i), sizeof(uint64_t));
	const struct tree_run *run = mode.any_depth ? tree_find_at_any_depth(tree, path->fp, tree_folded_owner(0))
						    : tree_find(tree, path->fp, tree_root_owner(path->fp, 0));
	all_readable(true);
	return run;
}

/* Tails that were seen, each with the path that it was seen in first, from that check on. */
static struct {
	uint32_t link;
	const struct path *path;
	size_t from;
} tails[PATHS];
static size_t tail_count;

static bool ends_alike(const struct path *a, size_t from_a, const struct path *b, size_t from_b)
{
	if (a->checks - from_a != b->checks - from_b)
		return false;
	for (size_t i = from_a, k = from_b; i < a->checks; i++, k++)
		if (a->values[i] != b->values[k] || (a->offsets[i] ^ b->offsets[k]) & WALK_POINTER ||
		    slot_of(a, i) - slot_of(a, from_a) != slot_of(b, k) - slot_of(b, from_b))
			return false;
	return true;
}

/* The same callers are there once. */
static void check_tail(const struct path *path, const struct tree_run *run)
{
	size_t from = 0;
	while (from < path->checks && (path->offsets[from] & ~WALK_POINTER) != run->tail_at)
		from++;
	CHECK(from < path->checks);
	for (size_t i = 0; i < tail_count; i++)
		if (ends_alike(tails[i].path, tails[i].from, path, from)) {
			CHECK(tails[i].link == run->tail);
			return;
		}
	tails[tail_count].link = run->tail;
	tails[tail_count].path = path;
	tails[tail_count++].from = from;
}

/* The pages of what a walk checks, as the tree tells them to the one that checks it again. */
static uint64_t pages_of(const struct path *path)
{
	uint64_t pages = 0;
	for (size_t i = 0; i < path->checks; i++)
		pages |= 1ull << ((uintptr_t)slot_of(path, i) / PAGE_BYTES - (uintptr_t)path->fp / PAGE_BYTES);
	return pages;
}

/* The tree says what is in it, and nothing else. */
static struct path *check_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	const struct tree_run *run = look(&path, path.checks);
	CHECK(!!run == !!mine->answer);
	if (!run)
		return mine;
	CHECK(run->answer == mine->answer);
	uintptr_t pcs[FRAMES];
	CHECK(tree_path(tree, run, pcs, FRAMES) == mine->count);
	CHECK(!memcmp(pcs, mine->pcs, mine->count * sizeof pcs[0]));
	CHECK(tree_pages(tree, run, path.fp) == pages_of(&path));
	CHECK(mine->guessed == (!run->is_plain && !run->has_tail));
	alive++;
	if (run->has_tail) {
		with_tail++;
		check_tail(mine, run);
	}
	return mine;
}

/* The path of the last walk; of it some, or all, of what another ends with too. */
static struct path last;

static size_t common_with_last(const struct path *path)
{
	size_t common = 0;
	while (common < last.checks && common < path->checks) {
		size_t a = last.checks - 1 - common, b = path->checks - 1 - common;
		if (slot_of(&last, a) != slot_of(path, b) || last.values[a] != path->values[b] ||
		    (last.offsets[a] ^ path->offsets[b]) & WALK_POINTER)
			break;
		common++;
	}
	return up_to(4) ? common : up_to(common + 1);
}

/* No path is in the tree any more. */
static void forget_all(void)
{
	for (size_t i = 0; i < path_count; i++)
		paths[i]->answer = 0;
	tail_count = 0;
}

static void insert_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	static uint32_t answers;
	struct walk walk = {.base = (uintptr_t)path.fp,
			    .offsets = path.offsets,
			    .values = path.values,
			    .checks = path.checks,
			    .common = common_with_last(&path),
			    .guessed = mode.guesses && !up_to(mode.guesses)};
	uint32_t used = tree->used;
	if (mode.any_depth)
		tree_insert_at_any_depth(tree, path.fp, tree_folded_owner(0), &walk, ++answers);
	else
		tree_insert(tree, path.fp, tree_root_owner(path.fp, 0), &walk, ++answers);
	if (tree->used < used) { /* it was full */
		forget_all();
		cleared++;
	}
	CHECK(TREE_FIRST + tree->used <= TREE_BYTES);
	mine->answer = answers;
	mine->guessed = walk.guessed;
	last = path;
}

/* Two paths with the same callers, which are not those of the path that was put in before. */
static void insert_elsewhere(void)
{
	insert_here();
	change_caller();
	walk_now(&last);
	tree_forget_last(tree);
	push();
	insert_here();
}

static void remove_all(void)
{
	tree_clear(tree);
	forget_all();
}

static void remove_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	const struct tree_run *run = look(&path, path.checks);
	if (!run)
		return;
	tree_remove(tree, run);
	mine->answer = 0;
}

/* Code is unmapped: what has gone through it, and no other. */
static void drop_one_function(void)
{
	uintptr_t pc = PC_BASE + 4 + up_to(CODE - 4);
	tree_drop_range(tree, pc - 1, pc);
	for (size_t i = 0; i < path_count; i++)
		for (size_t k = 0; k < paths[i]->count; k++)
			if (paths[i]->pcs[k] == pc)
				paths[i]->answer = 0;
	tail_count = 0; /* those through it have gone as well */
	last.checks = 0; /* as the cache does it */
}

/* Each path that went in, by its own stack: what came later has taken nothing from it. And with one word changed: nothing is
   proven then, and no word after it may be read. */
static void check_all(void)
{
	for (size_t i = 0; i < path_count && !failures; i++) {
		const struct path *path = paths[i];
		((uint64_t *)path->fp)[1] = path->pcs[0];
		for (size_t k = 0; k < path->checks; k++)
			*slot_of(path, k) = path->values[k];
		const struct tree_run *run = look(path, path->checks);
		CHECK(path->answer ? run && run->answer == path->answer : !run);
		if (!path->checks)
			continue;
		size_t k = up_to(path->checks);
		*slot_of(path, k) ^= 1ull << 50;
		CHECK(!look(path, k + 1));
	}
}

static void test(bool any_depth, bool removes, unsigned guesses, size_t steps)
{
	mode.any_depth = any_depth;
	mode.removes = removes;
	mode.guesses = guesses;
	with_tail = alive = cleared = 0;
	stack_begin();
	for (size_t i = 0; i < steps && path_count < PATHS - 1 && !failures; i++) {
		pop(up_to(up_to(8) ? 4 : FRAMES + 10));
		for (size_t frames = up_to(6); frames; frames--)
			push();
		if (depth < 2)
			push();
		if (!up_to(3))
			change_caller();
		struct path *path = check_here();
		if (!path->answer || !up_to(3))
			insert_here();
		else if (!up_to(10))
			insert_elsewhere();
		check_here();
		if (removes && !up_to(10))
			remove_here();
		if (removes && !up_to(400))
			drop_one_function();
		if (removes && !up_to(3000))
			remove_all();
	}
	check_all();
	CHECK(alive > steps / 2);
	printf("%zu paths, %zu tails, %u bytes\n", path_count, tail_count, tree->used);
	bytes_a_path = path_count ? tree->used / path_count : 0;
	for (size_t i = 0; i < path_count; i++)
		free(paths[i]);
	memset(bucket, 0, sizeof bucket);
	path_count = tail_count = 0;
	tree_clear(tree);
}

int main(void)
{
	tree = base_map(sizeof *tree);
	stacks = base_map(stack_at[2] + STACK_BYTES);
	test(false, false, 0, 8000);
	CHECK(with_tail > alive * 2 / 5 && !cleared);
	CHECK(bytes_a_path < 240); /* 228; 250 with tails that are known already */
	test(false, false, 20, 8000); /* in room that was used before, as after it was full */
	CHECK(with_tail > alive * 2 / 5);
	test(false, true, 20, 24000);
	CHECK(with_tail > alive * 2 / 5);
	test(false, false, 1, 12000);
	CHECK(cleared > 0 && !with_tail);
	test(false, true, 2, 24000);
	test(true, false, 0, 4000);
	CHECK(!with_tail);
	test(true, true, 0, 12000);
	return failures != 0;
}
