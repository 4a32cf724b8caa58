/* A hundred threads, each with a few hundred blocks of many sizes that come and go, all there at once. Prints the highest resident
   MiB, and how many there were alive. */
#include "common.h"

#define THREADS 100
#define BLOCKS 600

static pthread_barrier_t all;
static size_t alive_bytes[THREADS];

static void *work(void *number)
{
	size_t me = (size_t)number;
	unsigned seed = (unsigned)me * 7919 + 1;
	char *block[BLOCKS];
	size_t size[BLOCKS];
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < BLOCKS; i++) {
			if (round)
				free(block[i]);
			seed = seed * 1103515245 + 12345;
			size[i] = 16 + (seed >> 16) % 1000;
			block[i] = malloc(size[i]);
			memset(block[i], 1, size[i]);
		}
	}
	for (int i = 0; i < BLOCKS; i++)
		alive_bytes[me] += size[i];
	pthread_barrier_wait(&all);
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	return NULL;
}

int main(void)
{
	pthread_t thread[THREADS];
	size_t alive = 0;
	pthread_barrier_init(&all, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		alive += alive_bytes[i];
	}
	printf("%ld %zu\n", highest_resident_kib() >> 10, alive >> 20);
	return failures != 0;
}
