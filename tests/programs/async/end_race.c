/* end_race N: another thread frees each task's state at the moment at which its only poll returns. */
#include <stdatomic.h>

#include "common.h"

static _Atomic(char *) done;
static _Atomic bool over;

SITE void poll_task(char *task)
{
	atomic_store(&done, task);
}

static void *ender(void *unused)
{
	(void)unused;
	while (!atomic_load(&over))
		free(atomic_exchange(&done, NULL));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pthread_create(&thread, NULL, ender, NULL);
	for (long i = argc > 1 ? atol(argv[1]) : 10; i > 0; i--) {
		poll_task(malloc(100));
		while (atomic_load(&done))
			;
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	return 0;
}
