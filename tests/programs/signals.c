/*
 * A timer interrupts a thread that allocates, and the handler allocates, frees what main made, and makes what main frees.
 * glibc's allocator would deadlock or corrupt itself; ours must not. Usage: signals MILLISECONDS
 */
#include "common.h"

#include <sys/time.h>

static void *volatile from_main[16], *volatile from_handler[16];
static volatile long handled, corrupt;

static void *swap(void *volatile *place, void *p)
{
	return __atomic_exchange_n(place, p, __ATOMIC_ACQ_REL);
}

static char *block(size_t size, int tag)
{
	char *p = malloc(size);
	p[0] = p[size - 1] = (char)tag;
	*(unsigned short *)(p + 2) = (unsigned short)size;
	return p;
}

static void drop(char *p, int tag)
{
	if (!p)
		return;
	size_t size = *(unsigned short *)(p + 2);
	if (p[0] != (char)tag || p[size - 1] != (char)tag)
		corrupt++;
	memset(p, 0, size);
	free(p);
}

static void handler(int number)
{
	int saved = errno;
	unsigned at = (unsigned)++handled;
	drop(swap(&from_main[at & 15], NULL), 1);
	drop(swap(&from_handler[at & 15], block(10 + at % 700, 2)), 2);
	drop(block(30 + at % 20000, 3), 3);
	char *p = realloc(malloc(50), 500 + at % 5000);
	free(p);
	errno = saved + (number - SIGALRM);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 500}, {0, 500}};
	struct timespec now, end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	long ms = argc > 1 ? atol(argv[1]) : 1000;
	end.tv_sec += ms / 1000;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (unsigned i = 1;; i++) {
		drop(swap(&from_main[i & 15], block(12 + i % 900, 1)), 1);
		drop(swap(&from_handler[i * 7 & 15], NULL), 2);
		char *p = realloc(block(20 + i % 30000, 1), 100);
		if (p[0] != 1)
			corrupt++;
		free(p);
		if (i % 50 == 0)
			frame_mark();
		if (i % 64 == 0 && (clock_gettime(CLOCK_MONOTONIC, &now), now.tv_sec >= end.tv_sec))
			break;
	}
	timer = (struct itimerval){0};
	setitimer(ITIMER_REAL, &timer, NULL);
	printf("%ld %ld\n", handled > 100, corrupt);
	return corrupt != 0;
}
