/* A timer whose expirations glibc tells by threads, which it makes past pthread_create. */
#include "common.h"

#include <stdatomic.h>

static atomic_int fired;

static void expired(union sigval value)
{
	char *block = malloc(100 + (size_t)value.sival_int);
	CHECK(block != NULL);
	free(block);
	fired++;
}

int main(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = expired};
	struct itimerspec often = {{0, 1000000}, {0, 1000000}};
	timer_t timer;
	CHECK(!timer_create(CLOCK_MONOTONIC, &event, &timer) && !timer_settime(timer, 0, &often, NULL));
	for (int i = 0; i < 10000 && fired < 50; i++)
		usleep(1000);
	CHECK(fired >= 50 && !timer_delete(timer));
	return failures;
}
