/* corners CASE: rare ways through the C API. Prints what it saw and the figures; the same with and without the shim. */
#include <pthread.h>
#include <stdio.h>

#include "framealloc.h"

__attribute__((noinline, noipa, used)) void present(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
}

/* A marker's boundary inside a frame of the API leaves that frame's blocks alone. */
static void boundary_inside(void)
{
	char seen[5] = "";
	fa_frame_begin();
	char *mine = fa_frame_alloc(100);
	strcpy(mine, "mine");
	present();
	memset(fa_frame_alloc(100), 'x', 100);
	memcpy(seen, mine, 4);
	fa_frame_end();
	puts(seen);
}

/* What has no owner stays as it is. */
static void transfer_twice(void)
{
	void *block = fa_pool_alloc(10);
	printf("%d %d\n", fa_transfer(block), fa_transfer(block));
	fa_free(block);
}

/* Frame memory that is resized stays its frame's: inside an await, inside a task, on another thread. */
static void resize_in_await(void)
{
	fa_frame_begin();
	void *block = fa_frame_alloc(10);
	fa_await_begin();
	fa_realloc(block, 1000);
	fa_await_end();
	fa_frame_end();
}

static void resize_in_task(void)
{
	fa_frame_begin();
	void *block = fa_frame_alloc(10);
	fa_task *task = fa_task_new("resizes");
	fa_task_enter(task);
	block = fa_realloc(block, 1000);
	fa_realloc(block, 100000);
	fa_task_end(task);
	fa_frame_end();
}

static void *resize(void *block)
{
	return block ? fa_realloc(block, 1000) : NULL;
}

static void resize_elsewhere(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, resize, NULL); /* so that the next one needs nothing new */
	pthread_join(thread, NULL);
	fa_frame_begin();
	pthread_create(&thread, NULL, resize, fa_frame_alloc(10));
	pthread_join(thread, NULL);
	fa_frame_end();
}

/* A task leaves behind what nobody has handed on: neither more nor less. */
static void hand_on(fa_task *task, int way)
{
	fa_task_enter(task);
	FA_POOL_GUARD(guard);
	void *block = way == 2 ? fa_pool_alloc(10) : fa_task_alloc(task, 10);
	if (way == 0)
		fa_transfer(block);
	else if (way == 1)
		block = fa_promote(block, FA_HEAP);
	else if (way == 2)
		fa_guard_release(guard, block);
	fa_guard_end(guard);
	guard = NULL;
	fa_task_end(task);
	fa_free(block);
}

static void handed_on(void)
{
	for (int way = 0; way < 3; way++)
		hand_on(fa_task_new("hands on"), way);
}

static void handed_on_by_the_inner(void)
{
	fa_task *outer = fa_task_new("outer"), *inner = fa_task_new("inner");
	fa_task_enter(outer);
	fa_task_enter(inner);
	void *block = fa_task_alloc(outer, 10); /* made in the inner one's poll, the outer one's */
	fa_task_end(inner);
	fa_task_release(outer, block);
	fa_task_end(outer);
	fa_free(block);
}

static void released_and_resized(void)
{
	static void *volatile left;
	fa_task *task = fa_task_new("leaves one");
	fa_task_enter(task);
	void *block = fa_task_alloc(task, 10);
	fa_task_release(task, block);
	block = fa_realloc(block, 1000);
	fa_free(block);
	left = malloc(10);
	fa_task_end(task);
	free(left);
}

static void no_block(void)
{
	static _Alignas(64) char memory[256];
	errno = 0;
	bool resized = fa_realloc(memory + 128, 10) != NULL;
	printf("%d %d\n", resized, errno == EINVAL);
	printf("%d\n", fa_transfer(memory + 128) == -EINVAL);
	fa_free(memory + 128);
}

static void promote_nowhere(void)
{
	void *block = fa_heap_alloc(10);
	printf("%d\n", fa_promote(block, (fa_tier)9) == NULL && errno == EINVAL);
	fa_free(block);
}

static void frame_of_async(void)
{
	fa_thread_role(FA_ROLE_ASYNC);
	fa_frame_begin();
	fa_frame_alloc(10);
	fa_frame_end();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
	        {"boundary-inside", boundary_inside},
	        {"transfer-twice", transfer_twice},
	        {"resize-in-await", resize_in_await},
	        {"resize-in-task", resize_in_task},
	        {"resize-elsewhere", resize_elsewhere},
	        {"handed-on", handed_on},
	        {"handed-on-by-the-inner", handed_on_by_the_inner},
	        {"released-and-resized", released_and_resized},
	        {"no-block", no_block},
	        {"promote-nowhere", promote_nowhere},
	        {"frame-of-async", frame_of_async},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (argc > 1 && !strcmp(argv[1], cases[i].name))
			cases[i].run();
	fa_stats_t stats;
	fa_stats(&stats);
	printf("frame %d %d, other %d %d, frames %d, tasks %d %d, polls %d, misuse %d\n", (int)stats.frame.allocs,
	       (int)stats.frame.frees, (int)stats.other.allocs, (int)stats.other.frees, (int)stats.frames,
	       (int)stats.tasks_started, (int)stats.tasks_ended, (int)stats.polls, (int)stats.misuse);
	return 0;
}
