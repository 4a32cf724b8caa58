/* Two threads that have much alive in turn, one after the other twice, and then both at once: the process stands highest then.
   `frames`: one of them within a frame. */
#include "common.h"

#define BLOCKS 10000

static pthread_barrier_t barrier;
static bool in_frames;

/* In step with the other thread: `now`, have much alive, else nothing. */
static void step(bool now, bool marks)
{
	static __thread void *block[BLOCKS];
	if (marks && in_frames)
		frame_mark();
	for (int i = 0; now && i < BLOCKS; i++)
		block[i] = malloc(1000);
	pthread_barrier_wait(&barrier);
	for (int i = 0; now && i < BLOCKS; i++)
		free(block[i]);
	pthread_barrier_wait(&barrier);
}

static void *other(void *unused)
{
	for (int turn = 0; turn < 5; turn++)
		step(turn % 2 || turn == 4, false);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	in_frames = argc > 1 && !strcmp(argv[1], "frames");
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, other, NULL);
	for (int turn = 0; turn < 5; turn++)
		step(turn % 2 == 0, true);
	pthread_join(thread, NULL);
	return 0;
}
