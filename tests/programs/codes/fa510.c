/* FA510: a worker's pool blocks die at once. Clean twin: the main thread frees them. Run with role=worker=job*. */
#include "common.h"

static bool clean;
static void *block[200];

SITE void *born_here(void)
{
	return malloc(100);
}

static void *worker(void *unused)
{
	pthread_setname_np(pthread_self(), "job-1");
	for (int i = 0; i < 200; i++) {
		block[i] = born_here();
		if (!clean)
			free(block[i]);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	clean = argc > 1 && !strcmp(argv[1], "clean");
	pthread_create(&thread, NULL, worker, NULL);
	pthread_join(thread, NULL);
	for (int i = 0; i < 200 && clean; i++)
		free(block[i]);
	return 0;
}
