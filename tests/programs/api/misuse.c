/* misuse CODE [clean]: one mistake with the C API, at the line that says so; or the same done right. */
#include <stdio.h>
#include <stdlib.h>

#include "framealloc.h"

static int clean;

static void fa001(void)
{
	if (clean)
		fa_frame_begin();
	char *block = fa_frame_alloc(40); /* FA001 born */
	fa_free(block);
	fa_frame_end();
}

static void fa301(void)
{
	fa_budget_set(NULL, 1000);
	fa_frame_begin();
	fa_frame_alloc(clean ? 1000 : 1001);
	fa_frame_end();
}

static void fa601(void)
{
	fa_frame_begin();
	char *block = fa_frame_alloc(40); /* FA601 born */
	if (clean)
		block = fa_promote(block, FA_POOL);
	fa_frame_end();
	fa_free(block); /* FA601 died */
}

static void fa603(void)
{
	fa_frame_begin();
	char *block = fa_frame_alloc(40); /* FA603 born */
	if (clean)
		block = fa_promote(block, FA_HEAP);
	(void)FA_AWAIT(getenv("HOME") != NULL); /* FA603 await */
	fa_free(block); /* FA603 died */
	fa_frame_end();
}

static void fa701(void)
{
	fa_task *task = fa_task_new("wrong");
	fa_task_enter(task);
	char *block = clean ? fa_task_alloc(task, 40) : fa_frame_alloc(40); /* FA701 born */
	block[0] = 1;
	fa_task_leave(task);
	fa_task_end(task);
}

static void fa703(void)
{
	fa_task *task = fa_task_new("captures");
	fa_frame_begin();
	char *block = fa_frame_alloc(40); /* FA703 born */
	if (clean)
		block = fa_promote(block, FA_HEAP);
	(void)FA_AWAIT(getenv("HOME") != NULL);
	fa_task_enter(task);
	fa_free(block); /* FA703 died */
	fa_task_leave(task);
	fa_frame_end();
	fa_task_end(task);
}

static void fa704(void)
{
	fa_task *task = fa_task_new("forgets");
	fa_task_enter(task);
	static char *volatile left;
	char *kept = fa_task_alloc(task, 10), *handed = fa_task_alloc(task, 20);
	left = malloc(100);
	kept[0] = 1;
	if (clean)
		free(left);
	fa_task_release(task, handed);
	fa_task_leave(task);
	fa_task_end(task); /* FA704 died */
	fa_free(handed);
	if (!clean)
		free(left);
}

static void fa705(void)
{
	FA_POOL_GUARD(outer);
	char *block = fa_pool_alloc(40); /* FA705 born */
	fa_guard_release(outer, block);
	if (!clean && fa_guard_release(outer, block) != -EINVAL) /* FA705 died */
		abort();
	fa_free(block);
}

static void by_hand(void)
{
	fa_guard *guard = fa_guard_begin();
	char *block = fa_pool_alloc(40); /* by-hand born */
	if (!clean)
		fa_free(block); /* by-hand died */
	if (fa_guard_end(guard))
		abort();
}

static void order(void)
{
	fa_guard *outer = fa_guard_begin(), *inner = fa_guard_begin();
	fa_pool_alloc(40);
	if (clean && fa_guard_end(inner))
		abort();
	if (fa_guard_end(outer) != (clean ? 0 : -EINVAL)) /* order died */
		abort();
}

static void task_twice(void)
{
	fa_task *task = fa_task_new("twice");
	char *block = fa_task_alloc(task, 40); /* task-twice born */
	fa_task_release(task, block);
	if (!clean && fa_task_release(task, block) != -EINVAL) /* task-twice died */
		abort();
	fa_task_end(task);
	fa_free(block);
}

static void fa801(void)
{
	fa_tag_push("physics");
	fa_free(fa_heap_alloc(50));
	fa_tag_pop();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {{"FA001", fa001},     {"FA301", fa301}, {"FA601", fa601},           {"FA603", fa603},
		     {"FA701", fa701},     {"FA703", fa703}, {"FA704", fa704},           {"FA705", fa705},
		     {"by-hand", by_hand}, {"order", order}, {"task-twice", task_twice}, {"tags", fa801}};
	clean = argc > 2;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (argc > 1 && !strcmp(argv[1], cases[i].name))
			cases[i].run();
	fa_stats_t stats;
	fa_stats(&stats);
	printf("misuse %d, live %d\n", (int)stats.misuse, (int)(stats.frame.live_blocks + stats.other.live_blocks));
	return 0;
}
