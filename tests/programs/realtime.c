/* A thread of real-time priority and one without, on one processor: the first comes when the second is anywhere in malloc, and
   must not wait for it in a way that keeps it from running. Prints the longest that one of its allocations took, in µs; -1:
   the system gives no such priority. */
#include "paths.h"

#include <sched.h>

static volatile bool over;

static void *without(void *unused)
{
	for (unsigned i = 0; !over; i++)
		free(left(i * 2654435761u, 20));
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
		nanosleep(&(struct timespec){0, 50000 + i * 7919 % 100000}, NULL);
		uint64_t before = now_ns();
		free(left(i * 2246822519u, 20));
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
	CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	CHECK(sched_setaffinity(0, sizeof first, &first) == 0);
	CHECK(pthread_create(&threads[0], NULL, without, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, with_priority, &longest_us) == 0);
	pthread_join(threads[1], NULL);
	over = true;
	pthread_join(threads[0], NULL);
	printf("%ld\n", longest_us);
	return failures != 0;
}
