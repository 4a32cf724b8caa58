/* tests/programs/realtime.c by the API's calls: prints the longest that one took, in µs; -1: the system gives no such priority. */
#define _GNU_SOURCE
#include "framealloc.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

static volatile bool over;

static void one_call(void)
{
	fa_free(fa_frame_alloc(64));
}

static void *without(void *unused)
{
	while (!over) {
		fa_frame_begin();
		one_call();
		fa_frame_end();
	}
	return unused;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *with_priority(void *longest_us)
{
	struct sched_param priority = {.sched_priority = 10};
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority)) {
		*(long *)longest_us = -1;
		return NULL;
	}
	for (unsigned i = 0; i < 3000; i++) {
		struct timespec wait = {0, 50000 + i * 7919 % 100000};
		nanosleep(&wait, NULL);
		uint64_t before = now_ns();
		one_call();
		long took_us = (long)((now_ns() - before) / 1000);
		if (took_us > *(long *)longest_us)
			*(long *)longest_us = took_us;
	}
	return NULL;
}

int main(void)
{
	cpu_set_t allowed, first;
	int cpu = 0;
	pthread_t threads[2];
	long longest_us = 0;
	if (sched_getaffinity(0, sizeof allowed, &allowed))
		return 1;
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	if (sched_setaffinity(0, sizeof first, &first) || pthread_create(&threads[0], NULL, without, NULL) ||
	    pthread_create(&threads[1], NULL, with_priority, &longest_us))
		return 1;
	pthread_join(threads[1], NULL);
	over = true;
	pthread_join(threads[0], NULL);
	printf("%ld\n", longest_us);
	return 0;
}
