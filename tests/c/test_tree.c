/* The tree of checks against a list of what was put in: stacks that come and go frame by frame, so that paths share callees,
   callers, or both; sources: core/path/tree.c core/base.c; libs: -pthread */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "core/path/tree.h"
#include "check.h"

#define WORDS 2048 /* of stack */
#define FRAMES 60
#define CODE 64 /* return addresses, PC_BASE and so on; the first is the outermost */
#define PC_BASE 0x401000u
#define PATHS 20000

bool walk_frame_pointer_plausible(uintptr_t sp, uintptr_t rbp)
{
	(void)sp, (void)rbp;
	return false; /* each guess holds */
}

static uint64_t stack[WORDS] __attribute__((aligned(4096)));
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
	return 3 + pc * 7 % 23;
}

static bool saves_rbp(uintptr_t pc)
{
	return pc % 3 == 0;
}

static void pop(size_t frames)
{
	depth = frames < depth ? depth - frames : 1;
}

static void push(void)
{
	uintptr_t pc = PC_BASE + 1 + up_to(depth < 4 ? 3 : CODE - 1);
	size_t outer = return_at[depth - 1];
	if (depth == FRAMES || outer < frame_words(pc) + 8)
		return;
	return_at[depth] = outer - frame_words(pc);
	stack[return_at[depth]] = pc;
	stack[return_at[depth] + 1] = saves_rbp(pc) ? up_to(3) << 40 : up_to(1000); /* locals nobody looks at */
	depth++;
}

static const uintptr_t *frame_address(void)
{
	return (const uintptr_t *)&stack[return_at[depth - 1] - 1];
}

/* As walk_run does it: the return address of the hook's frame is no check, it leads to the root. */
struct path {
	uintptr_t pcs[FRAMES];
	int32_t offsets[2 * FRAMES];
	uint64_t values[2 * FRAMES];
	size_t count, checks;
	const uintptr_t *fp;
	uint32_t answer; /* 0: not in the tree */
	bool guessed;
};

static void check_add(struct path *path, const uint64_t *slot, int32_t kind)
{
	path->offsets[path->checks] = (int32_t)((uintptr_t)slot - (uintptr_t)path->fp) | kind;
	path->values[path->checks++] = *slot;
}

static void walk_now(struct path *path)
{
	*path = (struct path){.fp = frame_address()};
	const uint64_t *slot = (const uint64_t *)path->fp + 1;
	path->pcs[path->count++] = *slot;
	while (*slot != PC_BASE) {
		const uint64_t *next = slot + frame_words(*slot);
		if (saves_rbp(*slot))
			check_add(path, slot + 1, WALK_POINTER);
		check_add(path, next, 0);
		slot = next;
		path->pcs[path->count++] = *slot;
	}
}

static bool is_same(const struct path *a, const struct path *b)
{
	return a->fp == b->fp && a->count == b->count && a->checks == b->checks &&
	       !memcmp(a->pcs, b->pcs, a->count * sizeof a->pcs[0]) &&
	       !memcmp(a->offsets, b->offsets, a->checks * sizeof a->offsets[0]) &&
	       !memcmp(a->values, b->values, a->checks * sizeof a->values[0]);
}

static struct path *paths[PATHS];
static size_t path_count;

static struct path *known(const struct path *path)
{
	for (size_t i = 0; i < path_count; i++)
		if (is_same(paths[i], path))
			return paths[i];
	paths[path_count] = malloc(sizeof *path);
	memcpy(paths[path_count], path, sizeof *path);
	return paths[path_count++];
}

static struct tree *tree;
static size_t with_tail, alive;

static const struct tree_run *look(const struct path *path)
{
	return tree_find(tree, path->fp, tree_root_owner(path->fp, 0));
}

/* The tree says what is in it, and nothing else. */
static void check_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	const struct tree_run *run = look(mine);
	CHECK(!!run == !!mine->answer);
	if (!run)
		return;
	CHECK(run->answer == mine->answer);
	uintptr_t pcs[FRAMES];
	CHECK(tree_path(tree, run, pcs, FRAMES) == mine->count);
	CHECK(!memcmp(pcs, mine->pcs, mine->count * sizeof pcs[0]));
	CHECK(mine->guessed == (!run->is_plain && !run->has_tail));
	with_tail += run->has_tail;
	alive++;
}

static void insert_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	static uint32_t answers;
	mine->answer = ++answers;
	mine->guessed = up_to(20) == 0;
	struct walk walk = {
		.offsets = mine->offsets, .values = mine->values, .checks = mine->checks, .guessed = mine->guessed};
	uint32_t used = tree->used;
	tree_insert(tree, mine->fp, tree_root_owner(mine->fp, 0), &walk, mine->answer);
	CHECK(tree->used >= used); /* it was never cleared: all of it is to be found */
}

static void remove_here(void)
{
	struct path path;
	walk_now(&path);
	struct path *mine = known(&path);
	const struct tree_run *run = look(mine);
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
}

static void run(size_t steps, bool removes)
{
	for (size_t i = 0; i < steps && path_count < PATHS - 1 && !failures; i++) {
		pop(up_to(up_to(8) ? 4 : 40));
		for (size_t frames = up_to(6); frames; frames--)
			push();
		if (depth < 2)
			push();
		check_here();
		if (up_to(3))
			insert_here();
		check_here();
		if (removes && !up_to(10))
			remove_here();
		if (removes && !up_to(400))
			drop_one_function();
	}
}

/* Each path that went in, by its own stack: what came later has taken nothing from it. */
static void check_all(void)
{
	for (size_t i = 0; i < path_count && !failures; i++) {
		const struct path *path = paths[i];
		memset(stack, 0, sizeof stack);
		((uint64_t *)path->fp)[1] = path->pcs[0];
		for (size_t k = 0; k < path->checks; k++)
			memcpy((char *)path->fp + (path->offsets[k] & ~WALK_POINTER), &path->values[k],
			       sizeof(uint64_t));
		const struct tree_run *run = look(path);
		CHECK(path->answer ? run && run->answer == path->answer : !run);
		/* One word is another: none that is proven, unless it is another path's. */
		size_t k = path->checks ? up_to(path->checks) : 0;
		if (!path->checks)
			continue;
		((uint64_t *)((char *)path->fp + (path->offsets[k] & ~WALK_POINTER)))[0] ^= 1ull << 50;
		CHECK(!look(path));
	}
}

static void forget_all(void)
{
	for (size_t i = 0; i < path_count; i++)
		free(paths[i]);
	path_count = 0;
	tree_clear(tree);
	memset(stack, 0, sizeof stack);
	depth = 1;
	return_at[0] = WORDS - 8;
	stack[return_at[0]] = PC_BASE;
}

int main(void)
{
	tree = base_map(sizeof *tree);
	forget_all();
	run(8000, false);
	CHECK(alive > 1000 && with_tail > alive / 4);
	check_all();
	forget_all();
	run(8000, true);
	check_all();
	forget_all();
	return failures != 0;
}
