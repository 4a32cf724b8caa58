/* main allocates, workers free, the addresses come back to main: an event stream that mixes up threads pairs wrongly. Every
   block has a size of its own site, so that a wrong pair shows. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 3
#define RING 256
#define KEEP __attribute__((noinline, noipa))

static _Atomic(void *) ring[WORKERS][RING];
static atomic_bool over;

KEEP void hand_frame(void)
{
	__asm__ volatile("" ::: "memory");
}
KEEP static void *small(void)
{
	return malloc(24);
}
KEEP static void *large(void)
{
	return malloc(600);
}

static void *work(void *given)
{
	_Atomic(void *) *mine = given;
	for (;;) {
		bool last = over, any = false;
		for (int i = 0; i < RING; i++) {
			void *block = atomic_exchange(&mine[i], NULL);
			any |= block != NULL;
			free(block);
		}
		if (last && !any)
			return NULL;
	}
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 20000;
	pthread_t threads[WORKERS];
	for (int w = 0; w < WORKERS; w++)
		pthread_create(&threads[w], NULL, work, ring[w]);
	for (long i = 0; i < count; i++) {
		if (i % 500 == 0)
			hand_frame();
		void *block = i % 3 ? small() : large(), *none = NULL;
		while (!atomic_compare_exchange_weak(&ring[i % WORKERS][i / WORKERS % RING], &none, block))
			none = NULL;
	}
	over = true;
	for (int w = 0; w < WORKERS; w++)
		pthread_join(threads[w], NULL);
	return 0;
}
