/* A thread of real-time priority and one without, on one processor: the first comes when the second is anywhere in a call, and must
   not wait for it in a way that keeps it from running. */
#ifndef TEST_REALTIME_H
#define TEST_REALTIME_H

#include "common.h"

#include <sched.h>

#define TURNS 3000u

static volatile bool realtime_over;
static void (*realtime_call)(unsigned turn);

static void *without_priority(void *unused)
{
	for (unsigned turn = 0; !realtime_over; turn++)
		realtime_call(turn);
	return unused;
}

static uint64_t realtime_now_ns(void)
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
	for (unsigned turn = 0; turn < TURNS; turn++) {
		nanosleep(&(struct timespec){0, 50000 + turn * 7919 % 100000}, NULL);
		uint64_t before = realtime_now_ns();
		realtime_call(~turn);
		long took_us = (long)((realtime_now_ns() - before) / 1000);
		if (took_us > *(long *)longest_us)
			*(long *)longest_us = took_us;
	}
	return NULL;
}

/* Both make the call over and over; its argument is a number that hardly comes twice. Prints the longest that one took the
   thread of real-time priority, in µs; -1: the system gives no such priority. */
static int realtime_main(void (*call)(unsigned turn))
{
	cpu_set_t allowed, first;
	int cpu = 0;
	pthread_t threads[2];
	long longest_us = 0;
	realtime_call = call;
	CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	CHECK(sched_setaffinity(0, sizeof first, &first) == 0);
	CHECK(pthread_create(&threads[0], NULL, without_priority, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, with_priority, &longest_us) == 0);
	pthread_join(threads[1], NULL);
	realtime_over = true;
	pthread_join(threads[0], NULL);
	printf("%ld\n", longest_us);
	return failures != 0;
}

#endif
