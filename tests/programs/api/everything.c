/* everything [child]: every call of the C API with what it promises; the same with and without the shim, and in the child
   of a fork. Prints the figures. */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "framealloc.h"

static fa_task *shared;

static void frames(void)
{
	fa_frame_end(); /* without a frame: nothing */
	for (int i = 0; i < 100; i++) {
		FA_FRAME_SCOPE();
		fa_frame_begin(); /* nested: one frame */
		char *a = fa_frame_alloc(100), *b = fa_frame_alloc(0), *c = fa_frame_alloc(70000),
		     *huge = fa_frame_alloc(300000);
		assert(a && b && c && huge && !((uintptr_t)a & 15) && !((uintptr_t)huge & 15));
		memset(a, i, 100);
		memset(huge, i, 300000);
		a = fa_realloc(a, 5000);
		assert(a[0] == (char)i && a[99] == (char)i);
		a = fa_realloc(a, 10);
		assert(a[9] == (char)i);
		fa_free(c);
		fa_frame_end();
	}
	fa_frame_begin();
	char *kept = fa_frame_alloc(10), *moved = fa_frame_alloc(20);
	strcpy(kept, "kept");
	strcpy(moved, "moved");
	assert(!fa_transfer(kept));
	moved = fa_promote(moved, FA_HEAP);
	assert(!fa_promote(kept, FA_FRAME) && errno == EINVAL);
	fa_frame_end();
	assert(!strcmp(kept, "kept") && !strcmp(moved, "moved"));
	fa_free(kept);
	fa_free(moved);
	assert(fa_transfer(NULL) == -EINVAL && !fa_frame_alloc(SIZE_MAX) && errno == ENOMEM);
}

static void vectors(void)
{
	fa_vec heap = fa_heap_vec(sizeof(long)), pool = fa_pool_vec(3);
	for (long i = 0; i < 1000; i++)
		assert(!fa_vec_push(&heap, &i));
	for (long i = 0; i < 1000; i++)
		assert(*(long *)fa_vec_at(&heap, (size_t)i) == i);
	assert(!fa_vec_at(&heap, 1000) && heap.capacity >= 1000);
	assert(!fa_vec_append(&pool, "abcdef", 2) && !memcmp(fa_vec_at(&pool, 1), "def", 3));
	volatile size_t too_many = SIZE_MAX;
	assert(fa_vec_reserve(&heap, too_many / 4) == -ENOMEM && fa_vec_append(&heap, &heap, too_many) == -ENOMEM);
	assert(heap.count == 1000 && *(long *)fa_vec_at(&heap, 999) == 999);
	long *array = fa_vec_take(&heap);
	assert(array[500] == 500 && !heap.data && !heap.count);
	fa_free(array);
	fa_vec_clear(&pool);
	assert(!pool.count && pool.capacity);
	fa_vec_free(&pool);
}

static void *other_thread(void *unused)
{
	(void)unused;
	assert(fa_task_enter(shared) == -EBUSY);
	assert(fa_task_leave(shared) == -EINVAL);
	assert(fa_task_end(shared) == -EBUSY);
	assert(!fa_thread_role(FA_ROLE_ASYNC) && fa_thread_role((fa_role)9) == -EINVAL);
	fa_free(fa_task_alloc(shared, 30)); /* while it runs elsewhere */
	return NULL;
}

static void tasks(void)
{
	pthread_t thread;
	fa_task *outer = fa_task_new("outer"), *inner = fa_task_new(NULL), *child = fa_task_new_child(outer, "child");
	assert(outer && inner && child && fa_task_enter(NULL) == -EINVAL && fa_task_end(NULL) == -EINVAL);
	assert(!fa_task_alloc(NULL, 1) && errno == EINVAL);
	char *early = fa_task_alloc(outer, 1000); /* before the first poll */
	memset(early, 1, 1000);
	assert(!fa_task_enter(outer) && fa_task_enter(outer) == -EBUSY);
	assert(!fa_task_enter(inner));
	fa_vec vec = fa_task_vec(outer, 1);
	for (int i = 0; i < 5000; i++)
		assert(!fa_vec_push(&vec, "x"));
	shared = outer;
	pthread_create(&thread, NULL, other_thread, NULL);
	pthread_join(thread, NULL);
	assert(!fa_task_leave(outer)); /* leaves the inner one as well */
	assert(fa_task_leave(inner) == -EINVAL);
	assert(!fa_task_enter(inner) && !fa_task_leave(inner));
	char *array = fa_vec_take(&vec);
	assert(!fa_task_enter(child));
	FA_POOL_GUARD(none);
	fa_pool_alloc(77); /* the guard's that is the child's */
	assert(!fa_task_end(outer)); /* its child, its guard and its blocks with it */
	none = NULL;
	assert(array[4999] == 'x');
	fa_free(array);
	assert(!fa_task_end(inner));
}

static void the_rest(void)
{
	fa_stats_t stats;
	assert(fa_tag_pop() == -EINVAL && fa_tag_push(NULL) == -EINVAL && fa_tag_push("") == -EINVAL);
	for (int i = 0; i < 64; i++)
		assert(!fa_tag_push(i & 1 ? "a" : "b"));
	assert(fa_tag_push("a") == -EOVERFLOW);
	for (int i = 0; i < 64; i++)
		assert(!fa_tag_pop());
	assert(!fa_budget_set("a", 1 << 20) && !fa_budget_set(NULL, 0));
	fa_await_begin();
	fa_await_end();
	assert(FA_AWAIT(3 + 4) == 7);
	char *block = fa_realloc(NULL, 10);
	fa_free(block);
	fa_free(NULL);
	assert(!fa_guard_end(NULL));
	fa_stats(&stats);
	printf("frame %d %d %d, other %d %d %d, frames %d, tasks %d %d, polls %d, misuse %d\n", (int)stats.frame.allocs,
	       (int)stats.frame.frees, (int)stats.frame.live_bytes, (int)stats.other.allocs, (int)stats.other.frees,
	       (int)stats.other.live_bytes, (int)stats.frames, (int)stats.tasks_started, (int)stats.tasks_ended,
	       (int)stats.polls, (int)stats.misuse);
}

int main(int argc, char **argv)
{
	(void)argv;
	int status = fa_tag_pop() == -EINVAL ? 0 : 1; /* the way to the shim is known before the fork */
	if (argc > 1 && fork())
		return wait(&status) > 0 ? status != 0 : 1;
	frames();
	vectors();
	tasks();
	the_rest();
	return status;
}
