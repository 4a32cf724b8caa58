/* corners CASE: rare ways through the C API. Prints what it saw and the figures; the same with and without the shim. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* A region has its name, however long: it is found again. */
static void long_name(void)
{
	char name[101];
	int refused = 0;
	memset(name, 'n', 100);
	name[100] = 0;
	for (int i = 0; i < 200; i++)
		refused += fa_tag_push(name) != 0 || fa_tag_pop() != 0;
	printf("%d\n", refused);
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

static void free_twice(void)
{
	FA_FRAME_SCOPE();
	void *volatile block = fa_frame_alloc(10);
	fa_free(block);
	fa_free(block);
}

/* A frame that begins inside an await is one, and has awaits of its own. */
static void frame_in_await(void)
{
	fa_await_begin();
	fa_frame_begin();
	fa_frame_alloc(10);
	fa_await_begin();
	fa_free(fa_frame_alloc(10)); /* not the frame's */
	fa_await_end();
	fa_frame_alloc(10);
	fa_frame_end();
	fa_await_end();
}

static void frame_after_await(void)
{
	fa_frame_begin();
	fa_await_begin();
	fa_frame_end();
	fa_frame_begin();
	fa_frame_alloc(10);
	fa_frame_end();
	fa_await_end();
}

static void in_task_then_guarded(fa_task *task)
{
	fa_task_enter(task);
	FA_POOL_GUARD(guard);
	fa_pool_alloc(10);
	fa_task_leave(task); /* before the guard ends, which is the task's */
}

static void guards_and_tasks(void)
{
	fa_task *task = fa_task_new("guarded");
	in_task_then_guarded(task);
	fa_guard *guard = fa_guard_begin();
	fa_pool_alloc(10);
	fa_task_enter(task);
	int first = fa_guard_end(guard), second = fa_guard_end(guard);
	fa_task_end(task);
	printf("%d %d\n", first, second == -EINVAL);
}

static void vectors(void)
{
	FA_POOL_GUARD(guard);
	fa_vec vec = fa_pool_vec(sizeof(long));
	for (long i = 77; i < 85; i++)
		fa_vec_push(&vec, &i);
	fa_vec_push(&vec, fa_vec_at(&vec, 0)); /* one of its own, as it moves */
	printf("%ld\n", *(long *)fa_vec_at(&vec, 8));
	fa_vec_free(&vec); /* no mistake, though the guard owns it */
}

static void no_name(void)
{
	printf("%d %d\n", fa_budget_set("", 1) == -EINVAL, fa_tag_push("") == -EINVAL);
}

static fa_task *visited;
static volatile int visiting; /* no bool: UBSan makes gcc read it once */

static void *visit(void *unused)
{
	for (int i = 0; i < 300000; i++, visiting = 1)
		fa_free(fa_task_alloc(visited, 10));
	return unused;
}

/* Who makes a block for a task does not run it. */
static void visits(void)
{
	int busy = 0;
	pthread_t thread;
	visited = fa_task_new("visited");
	pthread_create(&thread, NULL, visit, NULL);
	while (!visiting)
		;
	for (int i = 0; i < 50000; i++)
		if (fa_task_enter(visited))
			busy++;
		else
			fa_task_leave(visited);
	pthread_join(thread, NULL);
	printf("%d\n", busy);
	fa_task_end(visited);
}

#define MEANWHILE_TASKS 20000
#define MEANWHILE_BLOCKS 8

static void *_Atomic handed[MEANWHILE_TASKS * MEANWHILE_BLOCKS];

static void *free_handed(void *unused)
{
	for (int i = 0; i < MEANWHILE_TASKS * MEANWHILE_BLOCKS; i++) {
		while (!handed[i])
			;
		fa_free(handed[i]);
	}
	return unused;
}

/* Tasks end while what they handed on is freed: at no moment does that look left behind. */
static void handed_meanwhile(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, free_handed, NULL);
	for (int i = 0; i < MEANWHILE_TASKS; i++) {
		fa_task *task = fa_task_new("hands on");
		fa_task_enter(task);
		for (int j = 0; j < MEANWHILE_BLOCKS; j++) {
			void *block = fa_task_alloc(task, 24);
			fa_task_release(task, block);
			handed[i * MEANWHILE_BLOCKS + j] = block;
		}
		fa_task_end(task);
	}
	pthread_join(thread, NULL);
}

static fa_task *volatile running;

static void *end_child(void *parent)
{
	fa_task *child = fa_task_new_child(parent, "child");
	fa_task_enter(child);
	running = child;
	fa_task_end(child);
	return NULL;
}

/* Its parent's end is refused until a child that runs elsewhere is gone, at whatever moment that is. */
static void family(void)
{
	for (int i = 0; i < 2000; i++) {
		pthread_t thread;
		fa_task *parent = fa_task_new("parent");
		running = NULL;
		pthread_create(&thread, NULL, end_child, parent);
		while (!running)
			;
		while (fa_task_end(parent) == -EBUSY)
			;
		pthread_join(thread, NULL);
	}
}

/* More kinds of tasks than the recording tells apart count all the same. */
static void many_types(void)
{
	for (int i = 0; i < 300; i++) {
		char name[20];
		snprintf(name, sizeof name, "type %d", i);
		fa_task *task = fa_task_new(name);
		fa_task_enter(task);
		fa_task_end(task);
	}
}

/* What has ended is no task any more. */
static void ended_twice(void)
{
	fa_task *task = fa_task_new("once"), *other;
	int first = fa_task_end(task), second = fa_task_end(task), entered = fa_task_enter(task);
	printf("%d %d %d ", first, second == -EINVAL, entered == -EINVAL);
	fa_task_enter(other = fa_task_new("another"));
	fa_task_alloc(other, 10);
	printf("%d\n", fa_task_end(other));
}

/* A child is made of what goes on, not of what has ended. */
static void child_of_ended(void)
{
	fa_task *parent = fa_task_new("ended");
	fa_task_end(parent);
	errno = 0;
	fa_task *child = fa_task_new_child(parent, "child");
	printf("%d %d ", child == NULL, errno == EINVAL);
	fa_task *next = fa_task_new("next");
	printf("%d\n", fa_task_end(next));
}

/* A child that was entered first, and its parent inside it: both end. */
static void child_around_parent(void)
{
	fa_task *parent = fa_task_new("parent"), *child = fa_task_new_child(parent, "child");
	fa_task_enter(child);
	fa_task_enter(parent);
	fa_task_alloc(parent, 10);
	fa_task_alloc(child, 10);
	printf("%d\n", fa_task_end(parent));
}

#define RACES 20000

static fa_task *_Atomic raced;
static _Atomic int races_made, races_tried, races_won;

static void *end_raced(void *unused)
{
	for (int i = 0; i < RACES; i++, races_tried++) {
		while (races_made == i)
			sched_yield();
		races_won += fa_task_end(raced) == 0;
	}
	return unused;
}

/* Of two threads that end a task, one does. */
static void ended_by_two(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, end_raced, NULL);
	for (int i = 0; i < RACES; i++) {
		raced = fa_task_new("raced");
		fa_task_alloc(raced, 10);
		races_made++;
		races_won += fa_task_end(raced) == 0;
		while (races_tried == i)
			sched_yield();
	}
	pthread_join(thread, NULL);
	printf("%d\n", races_won);
}

/* A parent ends while another thread ends its child, and makes a task of its own in that one's place. */
static void ended_and_made_anew(void)
{
	pthread_t thread;
	int failed = 0;
	pthread_create(&thread, NULL, end_raced, NULL);
	for (int i = 0; i < RACES; i++) {
		fa_task *parent = fa_task_new("parent"), *child = fa_task_new_child(parent, "child"), *own = NULL;
		raced = parent;
		int was = races_won;
		races_made++;
		if (!fa_task_end(child)) {
			own = fa_task_new("own");
			failed += fa_task_enter(own) != 0 || !fa_task_alloc(own, 10) || fa_task_leave(own) != 0;
		}
		while (races_tried == i)
			sched_yield();
		failed += own && fa_task_end(own) != 0;
		failed += races_won == was && fa_task_end(parent) != 0; /* refused while its child was the other's */
	}
	pthread_join(thread, NULL);
	printf("%d\n", failed);
	exit(0); /* who ends the children is chance */
}

static void use_in_fork(void)
{
	fa_free(fa_pool_alloc(10));
	fa_task_end(fa_task_new("in a fork"));
}

/* Handlers of a fork use the API. */
static void forks_with_handlers(void)
{
	int status;
	pthread_atfork(use_in_fork, use_in_fork, use_in_fork);
	fa_free(fa_heap_alloc(1));
	if (!fork())
		_exit(0);
	wait(&status);
	printf("%d\n", status);
}

static void *end_given(void *guard)
{
	return (void *)(intptr_t)fa_guard_end(guard);
}

/* A thread's guard is no other's to end, in the child of a fork either. */
static void guard_of_a_childs_thread(void)
{
	int status;
	if (!fork()) {
		pthread_t thread;
		void *ended;
		fa_guard *guard = fa_guard_begin();
		pthread_create(&thread, NULL, end_given, guard);
		pthread_join(thread, &ended);
		fa_guard *second = fa_guard_begin(), *third = fa_guard_begin();
		_exit((intptr_t)ended == -EINVAL && second != guard && third != second && !fa_guard_end(third) &&
				      !fa_guard_end(second) && !fa_guard_end(guard)
			      ? 7
			      : 1);
	}
	wait(&status);
	printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

#define GUARDED 20000
static fa_guard *_Atomic to_end[GUARDED];
static _Atomic bool guards_done;

static void *run_guarded(void *task)
{
	fa_task_enter(task);
	for (int i = 0; !guards_done || i < 1000; i++) {
		fa_guard *guard = fa_guard_begin();
		fa_guard_end(guard);
	}
	fa_task_leave(task);
	return NULL;
}

/* A task's guards may be ended wherever it runs: by whose scope began there, say. */
static void guards_elsewhere(void)
{
	pthread_t thread;
	fa_task *task = fa_task_new("guarded");
	fa_task_enter(task);
	for (int i = 0; i < GUARDED; i++) {
		to_end[i] = fa_guard_begin();
		if (i % 100 == 0)
			memset(fa_pool_alloc(100), i, 100);
	}
	fa_task_leave(task);
	pthread_create(&thread, NULL, run_guarded, task);
	for (int i = GUARDED - 1; i >= 0; i--)
		fa_guard_end(to_end[i]);
	guards_done = true;
	pthread_join(thread, NULL);
	printf("%d\n", fa_task_end(task));
	exit(0); /* how often one was ended in the other's is chance */
}

static void *begin_and_leave_open(void *out)
{
	void **made = out;
	fa_frame_begin();
	made[0] = fa_frame_alloc(100);
	fa_guard_begin();
	made[1] = fa_pool_alloc(100);
	fa_task_enter(made[3] = fa_task_new("left open"));
	made[2] = fa_task_alloc(made[3], 100);
	return NULL;
}

/* What a thread has made lives on where it ends without a word, and what it runs can be ended by others. */
static void left_open(void)
{
	void *made[4] = {NULL};
	pthread_t thread;
	pthread_create(&thread, NULL, begin_and_leave_open, made);
	pthread_join(thread, NULL);
	for (int i = 0; i < 3; i++)
		memset(made[i], 'a' + i, 100);
	fa_transfer(made[0]);
	fa_transfer(made[1]);
	fa_free(made[0]);
	fa_free(made[1]);
	printf("%d\n", fa_task_end(made[3]));
}

static _Atomic bool forks_done;

static void *use_api(void *unused)
{
	while (!forks_done) {
		fa_task *task = fa_task_new("busy");
		FA_POOL_GUARD(guard);
		fa_free(fa_realloc(fa_heap_alloc(10), 20));
		fa_pool_alloc(10);
		fa_task_end(task);
	}
	return unused;
}

/* A fork while another thread is inside of a call. */
static void forks_meanwhile(void)
{
	pthread_t thread;
	int status, failed = 0;
	pthread_create(&thread, NULL, use_api, NULL);
	for (int i = 0; i < 500; i++) {
		pid_t child = fork();
		if (!child) {
			fa_task *task = fa_task_new("child's");
			fa_task_alloc(task, 10);
			fa_free(fa_heap_alloc(10));
			_exit(fa_task_end(task));
		}
		failed += waitpid(child, &status, 0) != child || status != 0;
	}
	forks_done = true;
	pthread_join(thread, NULL);
	printf("%d\n", failed);
	exit(0); /* how much the other thread has done is chance */
}

/* What the parent had open goes on in the child of a fork; a block that was freed by hand is nobody's there either. */
static void in_child(fa_guard *guard, fa_task *task, void *block)
{
	fa_stats_t before, after;
	fa_stats(&before);
	int ended = fa_guard_end(guard), entered = fa_task_enter(task), again = fa_task_enter(task);
	fa_free(fa_task_alloc(task, 100));
	char *mine = malloc(100); /* likely where that was */
	strcpy(mine, "mine");
	int released = fa_task_release(task, block), over = fa_task_end(task);
	char *other = malloc(100);
	strcpy(other, "other");
	fa_free(block);
	fa_stats(&after);
	printf("%d %d %d %d %d %s %d\n", ended, entered, again == -EBUSY, released, over, mine,
	       (int)(after.other.frees - before.other.frees));
	free(mine);
	free(other);
}

static void forked(void)
{
	FA_POOL_GUARD(guard);
	fa_pool_alloc(10);
	fa_task *task = fa_task_new("parent's");
	void *block = fa_task_alloc(task, 10);
	fflush(stdout);
	if (!fork()) {
		in_child(guard, task, block);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	fa_task_end(task);
}

static void forked_tasks(void)
{
	fa_task *task = fa_task_new("parent's");
	fa_task_enter(task);
	char *block = fa_task_alloc(task, 10), *released = fa_task_alloc(task, 10);
	strcpy(block, "mine");
	fa_task_release(task, released);
	fa_task_leave(task);
	if (!fork()) {
		fa_free(released);
		fa_task *own = fa_task_new("child's");
		int entered = fa_task_enter(own) | fa_task_enter(task), ended = fa_task_end(own);
		strcpy(fa_task_alloc(task, 10), "other");
		printf("%s, entered %d, ended %d ", block, entered, ended);
		printf("%d\n", fa_task_end(task));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	fa_free(released);
	fa_task_end(task);
}

static void forked_hand_on(void)
{
	static void *volatile left;
	fa_task *task = fa_task_new("parent's");
	fa_task_enter(task);
	void *block = fa_task_alloc(task, 10);
	fa_task_leave(task);
	if (!fork()) {
		fa_task_release(task, block);
		fa_free(block);
		fa_task_enter(task);
		left = malloc(100);
		fa_task_end(task);
		free(left);
		_exit(0);
	}
	wait(NULL);
	fa_task_end(task);
}

/* The child's own frames, and in one of them memory of a frame of its parent's. */
static void forked_frames(void)
{
	fa_frame_begin();
	void *inherited = fa_frame_alloc(10);
	if (!fork()) {
		fa_frame_end();
		for (int i = 0; i < 3; i++) {
			fa_frame_begin();
			fa_frame_alloc(20);
			if (i == 1)
				fa_realloc(inherited, 100);
			fa_frame_end();
		}
		fa_stats_t stats;
		fa_stats(&stats);
		printf("frame %d %d\n", (int)stats.frame.live_blocks, (int)stats.other.live_blocks);
		fflush(stdout);
		_exit(0);
	}
	int status;
	wait(&status);
	printf("%d\n", status);
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
		{"free-twice", free_twice},
		{"frame-in-await", frame_in_await},
		{"frame-after-await", frame_after_await},
		{"guards-and-tasks", guards_and_tasks},
		{"vectors", vectors},
		{"no-name", no_name},
		{"long-name", long_name},
		{"visits", visits},
		{"handed-meanwhile", handed_meanwhile},
		{"family", family},
		{"many-types", many_types},
		{"ended-twice", ended_twice},
		{"ended-by-two", ended_by_two},
		{"ended-and-made-anew", ended_and_made_anew},
		{"child-of-ended", child_of_ended},
		{"child-around-parent", child_around_parent},
		{"forks-with-handlers", forks_with_handlers},
		{"guard-of-a-childs-thread", guard_of_a_childs_thread},
		{"guards-elsewhere", guards_elsewhere},
		{"left-open", left_open},
		{"forks-meanwhile", forks_meanwhile},
		{"forked-tasks", forked_tasks},
		{"forked-hand-on", forked_hand_on},
		{"forked", forked},
		{"forked-frames", forked_frames},
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
