/* FA204: a worker frees 5,000 blocks of one frame of the main thread, which takes none back. Clean twin: 100. */
#include "common.h"

static void *block[5000];
static int count;
static sem_t given, taken;

static void *worker(void *unused)
{
	sem_wait(&given);
	for (int i = 0; i < count; i++)
		free(block[i]);
	sem_post(&taken);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	count = argc > 1 && !strcmp(argv[1], "clean") ? 100 : 5000;
	pthread_create(&thread, NULL, worker, NULL);
	frame_mark();
	for (int i = 0; i < count; i++)
		block[i] = malloc(64);
	sem_post(&given);
	sem_wait(&taken);
	frame_mark();
	return pthread_join(thread, NULL);
}
