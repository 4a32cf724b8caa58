/* end_race N: another thread frees each task's state at the moment at which its only poll returns. */
#include <stdatomic.h>

#include "common.h"

#include <sched.h>

static _Atomic(char *) done;
static _Atomic bool over;

/* Turns of a loop that waits: where there are fewer processors than threads, the other one must come to run. */
static void wait_a_turn(unsigned *turns)
{
	if (!(++*turns % 4096))
		sched_yield();
}

SITE void poll_task(char *task)
{
	atomic_store(&done, task);
}

static void *ender(void *unused)
{
	(void)unused;
	for (unsigned turns = 0; !atomic_load(&over); wait_a_turn(&turns))
		free(atomic_exchange(&done, NULL));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pthread_create(&thread, NULL, ender, NULL);
	for (long i = argc > 1 ? atol(argv[1]) : 10; i > 0; i--) {
		poll_task(malloc(100));
		for (unsigned turns = 0; atomic_load(&done);)
			wait_a_turn(&turns);
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	return 0;
}
