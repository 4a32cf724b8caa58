/*
 * Main makes COUNT blocks in a frame and waits until a worker has freed them, then takes them back in FRAMES frames;
 * all that once more. With a third argument a thread does it, which ends, and then another one. Prints resident MiB
 * with the blocks of each round, and at the end. Usage: long_chain COUNT FRAMES [thread]
 */
#include "common.h"

static void **block;
static int count, frames;
static sem_t made, freed;

SITE void *make(void)
{
	return memset(malloc(100), 1, 100);
}

SITE void *scratch(void)
{
	return malloc(50);
}

static void *worker(void *unused)
{
	for (int round = 0; round < 2; round++) {
		sem_wait(&made);
		for (int i = 0; i < count; i++)
			free(block[i]);
		sem_post(&freed);
	}
	return unused;
}

static void *take_turn(void *resident)
{
	frame_mark();
	for (int i = 0; i < count; i++)
		block[i] = make();
	*(long *)resident = resident_kib() / 1024;
	sem_post(&made);
	sem_wait(&freed);
	for (int i = 0; i < frames; i++) {
		frame_mark();
		for (int k = 0; k < 20; k++)
			free(scratch());
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t other, owner;
	long resident[2];
	if (argc < 3)
		return 2;
	count = atoi(argv[1]);
	frames = atoi(argv[2]);
	block = calloc((size_t)count, sizeof *block);
	sem_init(&made, 0, 0);
	sem_init(&freed, 0, 0);
	CHECK(pthread_create(&other, NULL, worker, NULL) == 0);
	for (int round = 0; round < 2; round++) {
		if (argc > 3) {
			CHECK(pthread_create(&owner, NULL, take_turn, &resident[round]) == 0);
			CHECK(pthread_join(owner, NULL) == 0);
		} else {
			take_turn(&resident[round]);
		}
	}
	CHECK(pthread_join(other, NULL) == 0);
	printf("%ld %ld %ld\n", resident[0], resident[1], resident_kib() / 1024);
	return failures != 0;
}
