/* Threads that allocate by ever new call paths, and signal handlers that do the same in the middle of it. Prints how many blocks
   were born. Argument: how many each thread makes. */
#include "common.h"
#include <pthread.h>
#include <signal.h>

#define THREADS 3

static _Atomic long born;
static _Atomic int running = THREADS;
static long each;

/* One of 2^16 paths. */
static void descend(unsigned way, int depth);
static __attribute__((noinline, noipa)) void left(unsigned way, int depth)
{
	descend(way, depth);
	__asm__ volatile("");
}
static __attribute__((noinline, noipa)) void right(unsigned way, int depth)
{
	descend(way, depth);
	__asm__ volatile("");
}
static __attribute__((noinline, noipa)) void descend(unsigned way, int depth)
{
	if (depth) {
		(way & 1 ? left : right)(way >> 1, depth - 1);
		__asm__ volatile("");
		return;
	}
	/* Some are jemalloc's: a handler may interrupt that as well. */
	void *made = malloc(way % 16 ? 1 + way % 300 : 20000);
	free(made);
	CHECK(made != NULL); /* nor where a handler interrupted who gives out memory */
	born++;
}

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void on_signal(int number)
{
	static __thread unsigned seed;
	seed += (unsigned)number;
	descend(next_random(&seed), 16);
}

static void *work(void *number)
{
	unsigned seed = (unsigned)(uintptr_t)number;
	for (long i = 0; i < each; i++)
		descend(next_random(&seed), 16);
	running--;
	/* A thread that can still be signalled does not end before the signals do. */
	while (running >= 0)
		sched_yield();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS];
	each = argc > 1 ? atol(argv[1]) : 1000;
	CHECK(!sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL));
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, work, (void *)(i + 1)));
	while (running > 0)
		for (int i = 0; i < THREADS; i++)
			pthread_kill(thread[i], SIGUSR1);
	running = -1;
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_join(thread[i], NULL));
	printf("%ld\n", born);
	return failures;
}
