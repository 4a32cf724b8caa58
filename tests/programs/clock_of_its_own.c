/* A clock of the program's own, as libfaketime has one: it takes a lock, and allocates under it. One thread asks for the time while
   another frees so much that memory goes back. Says how often each came round in two seconds. */
#include <sys/syscall.h>

#include "common.h"

enum { BLOCKS = 40000, KEPT = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool over, slow;
static _Atomic long churned, asked;

int clock_gettime(clockid_t id, struct timespec *time)
{
	static void *keep[KEPT];
	static unsigned next;
	static __thread bool inside;
	if (!slow || inside)
		return (int)syscall(SYS_clock_gettime, id, time);
	inside = true;
	pthread_mutex_lock(&lock);
	void **kept = &keep[next++ % KEPT];
	free(*kept);
	*kept = malloc(8000);
	int status = (int)syscall(SYS_clock_gettime, id, time);
	pthread_mutex_unlock(&lock);
	inside = false;
	return status;
}

static void *churn(void *unused)
{
	static void *block[BLOCKS];
	for (; !over; churned++) {
		for (int i = 0; i < BLOCKS; i++)
			block[i] = malloc(1000);
		for (int i = 0; i < BLOCKS; i++)
			free(block[i]);
	}
	return unused;
}

static void *ask(void *unused)
{
	for (struct timespec now; !over; asked++)
		clock_gettime(CLOCK_MONOTONIC, &now);
	return unused;
}

int main(void)
{
	pthread_t thread[2];
	struct timespec second = {1, 0};
	CHECK(!pthread_create(&thread[0], NULL, churn, NULL) && !pthread_create(&thread[1], NULL, ask, NULL));
	nanosleep(&second, NULL);
	slow = true;
	long before[2] = {churned, asked};
	nanosleep(&second, NULL);
	nanosleep(&second, NULL);
	printf("%ld %ld\n", churned - before[0], asked - before[1]);
	fflush(stdout);
	_exit(failures != 0); /* they may stand still */
}
