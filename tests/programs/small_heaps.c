/* So many threads, each with so many blocks that come and go, of sizes up to 1000 but for the third argument, all there at once.
   Prints the highest resident KiB, and how many there were alive. */
#include "common.h"

#define THREADS_MAX 1000
#define BLOCKS_MAX 600

static int threads, blocks;
static unsigned sizes = 1000;

static pthread_barrier_t all;
static size_t alive_bytes[THREADS_MAX];

/* A call path for each depth. */
SITE void *allocate(int depth, size_t size)
{
	void *block = depth ? allocate(depth - 1, size) : malloc(size);
	__asm__ volatile("" : "+r"(block));
	return block;
}

static void *work(void *number)
{
	size_t me = (size_t)number;
	unsigned seed = (unsigned)me * 7919 + 1;
	char *block[BLOCKS_MAX];
	size_t size[BLOCKS_MAX];
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < blocks; i++) {
			if (round)
				free(block[i]);
			seed = seed * 1103515245 + 12345;
			size[i] = 16 + (seed >> 16) % sizes;
			block[i] = allocate(i % 10, size[i]);
			memset(block[i], 1, size[i]);
		}
	}
	for (int i = 0; i < blocks; i++)
		alive_bytes[me] += size[i];
	pthread_barrier_wait(&all);
	for (int i = 0; i < blocks; i++)
		free(block[i]);
	return NULL;
}

int main(int count, char **argument)
{
	static pthread_t thread[THREADS_MAX];
	pthread_attr_t small_stack;
	size_t alive = 0;
	threads = atoi(argument[1]);
	blocks = atoi(argument[2]);
	if (count > 3)
		sizes = (unsigned)atoi(argument[3]);
	pthread_attr_init(&small_stack);
	pthread_attr_setstacksize(&small_stack, 128 << 10);
	pthread_barrier_init(&all, NULL, (unsigned)threads);
	for (int i = 0; i < threads; i++)
		CHECK(pthread_create(&thread[i], &small_stack, work, (void *)(intptr_t)i) == 0);
	for (int i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		alive += alive_bytes[i];
	}
	printf("%ld %zu\n", highest_resident_kib(), alive >> 10);
	return failures != 0;
}
