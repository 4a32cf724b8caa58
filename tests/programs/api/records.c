/* Many short threads, each frees in a frame of its own what one before it made in its frame: more threads than there are
   records of threads, so that a record comes to threads of other slots. Prints blocks made and freed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "framealloc.h"

#define LANES 8
#define SHELVES 4086 /* just fewer than there are records: who frees often has the record of who made */
#define BLOCKS 400
#define ROUNDS 5

static void *shelf[SHELVES][BLOCKS];
static _Atomic long next, made, freed;

static __attribute__((noinline)) void *make(void)
{
	return malloc(48);
}

static void *work(void *unused)
{
	void **mine = shelf[next++ % SHELVES];
	long freed_here = 0;
	fa_frame_begin();
	for (int i = 0; i < BLOCKS; i++)
		if (mine[i]) {
			free(mine[i]);
			freed_here++;
		}
	for (int i = 0; i < BLOCKS; i++)
		mine[i] = make();
	fa_frame_end();
	made += BLOCKS;
	freed += freed_here;
	return unused;
}

static void *lane(void *unused)
{
	for (int i = 0; i < ROUNDS * SHELVES / LANES; i++) {
		pthread_t thread;
		pthread_create(&thread, NULL, work, NULL);
		pthread_join(thread, NULL);
	}
	return unused;
}

int main(void)
{
	pthread_t lanes[LANES];
	for (int i = 0; i < LANES; i++)
		pthread_create(&lanes[i], NULL, lane, NULL);
	for (int i = 0; i < LANES; i++)
		pthread_join(lanes[i], NULL);
	printf("%ld %ld\n", (long)made, (long)freed);
	return 0;
}
