/* regions N: a coroutine switches away in the middle of a region, N times. */
#include "common.h"
#include <ucontext.h>

static ucontext_t home, coroutine;
static long left;

SITE void *home_alloc(void)
{
	return malloc(40);
}

SITE void region_inside(void)
{
	while (left--) {
		void *before = malloc(30);
		swapcontext(&coroutine, &home);
		free(malloc(50));
		free(before);
	}
}

int main(int argc, char **argv)
{
	static char stack[64 << 10];
	long count = left = argc > 1 ? atol(argv[1]) : 5;
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = sizeof stack;
	coroutine.uc_link = &home;
	makecontext(&coroutine, region_inside, 0);
	for (long i = 0; i <= count; i++) {
		swapcontext(&home, &coroutine);
		if (i < count) {
			free(home_alloc());
			free(home_alloc());
		}
	}
	return failures;
}
