/* Tasks as a runtime has them: a header from malloc, a poll function, the end by free. In every poll one block dies and
   one goes on to the next poll. LIVE tasks at once, TASKS in all, POLLS polls each; threads in turn when THREADS > 1.
   usage: polls TASKS LIVE POLLS [THREADS]; prints the polls, and its highest resident KiB */
#include "../common.h"

struct task {
	long polls;
	void *kept;
	char state[48];
};

static long tasks, live, polls, polled;

__attribute__((noinline)) void *task_keeps(void)
{
	return malloc(40);
}

__attribute__((noinline)) void *task_drops(void)
{
	return malloc(24);
}

__attribute__((noinline)) int poll_task(struct task *task)
{
	free(task->kept);
	task->kept = NULL;
	free(task_drops());
	__atomic_fetch_add(&polled, 1, __ATOMIC_RELAXED);
	if (++task->polls == polls)
		return 1;
	task->kept = task_keeps();
	return 0;
}

static struct task **all;
static pthread_barrier_t round_end;
static long threads = 1;

/* Each thread polls every task in a round of its own. */
static void *worker(void *number)
{
	for (long done = 0; done < tasks; done += live)
		for (long round = 0; round < polls; round++) {
			if (round % threads == (long)number)
				for (long i = 0; i < live; i++) {
					if (!round)
						all[i] = calloc(1, sizeof *all[i]);
					if (poll_task(all[i]))
						free(all[i]);
				}
			pthread_barrier_wait(&round_end);
		}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t others[8];
	tasks = argc > 1 ? atol(argv[1]) : 10;
	live = argc > 2 ? atol(argv[2]) : 2;
	polls = argc > 3 ? atol(argv[3]) : 3;
	threads = argc > 4 ? atol(argv[4]) : 1;
	all = calloc((size_t)live, sizeof *all);
	pthread_barrier_init(&round_end, NULL, (unsigned)threads);
	for (long i = 1; i < threads; i++)
		pthread_create(&others[i], NULL, worker, (void *)i);
	worker(NULL);
	for (long i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	free(all);
	printf("%ld %ld\n", polled, highest_resident_kib());
	return 0;
}
