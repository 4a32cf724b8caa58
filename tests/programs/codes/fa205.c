/* FA205: a frame ends while another thread still holds a block of it. Clean twin: the worker's block is its own. */
#include "common.h"

static void *block;
static sem_t given;

SITE void *born_here(void)
{
	return malloc(100);
}

SITE void freed_here(void *p)
{
	free(p);
}

static void *worker(void *unused)
{
	sem_wait(&given);
	freed_here(block ? block : malloc(100));
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pthread_create(&thread, NULL, worker, NULL);
	frame_mark();
	block = born_here();
	if (argc > 1 && !strcmp(argv[1], "clean")) {
		free(block);
		block = NULL;
	}
	frame_mark();
	sem_post(&given);
	return pthread_join(thread, NULL);
}
