/* overlap N: a task is handed on in the middle of its poll function, as runtimes do: the next poll, on another thread,
   begins before the last one returns. N polls on each of two threads. */
#include "common.h"

static sem_t turn[2];
static long polls;

struct task {
	void *kept;
	long done;
};

SITE void *task_keeps(void)
{
	return malloc(40);
}

SITE void poll_task(struct task *task, int thread)
{
	free(task->kept);
	task->kept = ++task->done < 2 * polls ? task_keeps() : NULL;
	sem_post(&turn[!thread]); /* the other may poll it from here on */
	if (task->done < 2 * polls)
		sem_wait(&turn[thread]); /* and has done so for long when this one returns */
	sem_post(&turn[thread]);
}

static struct task *shared;

static void *run(void *number)
{
	int thread = (int)(intptr_t)number;
	for (long i = 0; i < polls; i++) {
		sem_wait(&turn[thread]);
		poll_task(shared, thread);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t other;
	polls = argc > 1 ? atol(argv[1]) : 10;
	shared = calloc(1, sizeof *shared);
	sem_init(&turn[0], 0, 1);
	sem_init(&turn[1], 0, 0);
	pthread_create(&other, NULL, run, (void *)1);
	run((void *)0);
	pthread_join(other, NULL);
	free(shared);
	return failures;
}
