/* FA201: another thread frees a frame's block while the frame is open. Clean twin: the block never leaves its thread. */
#include "common.h"

static void *block;
static sem_t given, taken;

SITE void *born_here(void)
{
	return malloc(100);
}

/* Where a policy says `transfer = hand_over`, the block is no longer this thread's to free. */
SITE void hand_over(void *given_block)
{
	block = given_block;
}

SITE void freed_here(void)
{
	free(block);
}

static void *worker(void *unused)
{
	sem_wait(&given);
	if (block)
		freed_here();
	sem_post(&taken);
	return unused;
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	pthread_t thread;
	pthread_create(&thread, NULL, worker, NULL);
	frame_mark();
	hand_over(born_here());
	if (clean) {
		free(block);
		block = NULL;
	}
	sem_post(&given);
	sem_wait(&taken);
	frame_mark();
	return pthread_join(thread, NULL);
}
