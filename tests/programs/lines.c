/* Two threads, one after the other, do the same work: pairs of malloc and free, batches, resizing, an entered marker. A store
   to `phase` stands before and after each one's part, for who reads a trace of all stores (test_shared_lines.py). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define KEEP __attribute__((noinline, noipa))

static volatile _Alignas(64) unsigned phase;
static pthread_barrier_t turn;

KEEP void lines_frame(void)
{
	__asm__ volatile("" ::: "memory");
}
KEEP void lines_marked(void)
{
	__asm__ volatile("" ::: "memory");
}

KEEP static void work(void)
{
	void *block[50];
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 50; i++)
			block[i] = malloc((size_t)(16 + i % 5 * 40));
		for (int i = 0; i < 50; i++)
			free(block[i]);
		for (int i = 0; i < 50; i++)
			free(realloc(malloc(64), 100));
		lines_marked();
	}
}

/* Everything is there already when the counted part begins: call paths, spans, slabs, segments on lease. */
static void *thread(void *given)
{
	unsigned number = *(unsigned *)given;
	lines_frame();
	/* One place that calls, without a branch around it: its call paths are known after the first pass. */
	for (volatile unsigned pass = 0; pass < 5; pass++) {
		static volatile _Alignas(64) unsigned unused[2];
		volatile unsigned *where = pass >= 3 ? &phase : &unused[number];
		if (pass >= 3)
			pthread_barrier_wait(&turn);
		if (pass >= 3 && pass - 3 != number)
			continue;
		*where = pass;
		work();
		*where = 0;
	}
	pthread_barrier_wait(&turn);
	return NULL;
}

int main(void)
{
	pthread_t threads[2];
	unsigned numbers[2] = {0, 1};
	printf("%p\n", (void *)&phase);
	fflush(stdout);
	pthread_barrier_init(&turn, NULL, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, thread, &numbers[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
