/* switches N [THREAD]: a coroutine is entered N times and gives back each time; or a thread of a name allocates. */
#include "common.h"
#include <ucontext.h>

static ucontext_t program, coroutine;
static long left;

SITE void *kept(void)
{
	return malloc(40);
}
SITE void *dropped(void)
{
	return malloc(60);
}

static void run(void)
{
	for (void *block = NULL;;) {
		free(block);
		if (!left--)
			break;
		block = kept();
		free(dropped());
		swapcontext(&coroutine, &program);
	}
}

static void *named(void *name)
{
	pthread_setname_np(pthread_self(), name);
	free(malloc(10));
	return NULL;
}

int main(int argc, char **argv)
{
	static char stack[64 << 10];
	pthread_t thread;
	if (argc > 2) {
		pthread_create(&thread, NULL, named, argv[2]);
		pthread_join(thread, NULL);
		return 0;
	}
	long count = left = argc > 1 ? atol(argv[1]) : 10;
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = sizeof stack;
	coroutine.uc_link = &program;
	makecontext(&coroutine, run, 0);
	frame_mark();
	for (long i = 0; i < count; i++)
		swapcontext(&program, &coroutine);
	puts("done");
	return failures;
}
