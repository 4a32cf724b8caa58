/* A handler jumps out of a waiting call that bounds frames: 111 calls of nanosleep are 111 frames. */
#include "common.h"

#include <setjmp.h>

static sigjmp_buf back;

static void handler(int number)
{
	siglongjmp(back, number);
}

static void frames(int count)
{
	struct timespec short_time = {0, 100000};
	for (int i = 0; i < count; i++) {
		free(malloc(5));
		nanosleep(&short_time, NULL);
	}
}

int main(void)
{
	struct timespec long_time = {60, 0};
	signal(SIGALRM, handler);
	frames(10);
	if (!sigsetjmp(back, 1)) {
		ualarm(20000, 0);
		nanosleep(&long_time, NULL);
	}
	frames(100);
	return failures;
}
