/* Coroutines that are made by makecontext and switched by siglongjmp, as QEMU's are. usage: jumping COROUTINES RESUMPTIONS */
#include "common.h"
#include <setjmp.h>
#include <ucontext.h>

struct coroutine {
	sigjmp_buf inside, outside;
	ucontext_t context;
	char *stack;
	int done;
};

static struct coroutine *starting;
static ucontext_t starter;
static int resumptions;

SITE void *crossing(void)
{
	return malloc(48);
}
SITE void *staying(void)
{
	return malloc(32);
}
SITE void *outside(void)
{
	return malloc(64);
}

static void yield(struct coroutine *self)
{
	if (!sigsetjmp(self->inside, 0))
		siglongjmp(self->outside, 1);
}

static void resume(struct coroutine *self)
{
	if (!sigsetjmp(self->outside, 0))
		siglongjmp(self->inside, 1);
}

static void body(void)
{
	struct coroutine *self = starting;
	if (!sigsetjmp(self->inside, 0))
		swapcontext(&self->context, &starter);
	for (;;) {
		void *kept = crossing();
		free(staying());
		yield(self);
		free(kept);
		self->done++;
	}
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, sum = 0;
	resumptions = argc > 2 ? atoi(argv[2]) : 10;
	struct coroutine *all = calloc((size_t)count, sizeof *all);
	for (int i = 0; i < count; i++) {
		getcontext(&all[i].context);
		all[i].stack = malloc(65536);
		all[i].context.uc_stack.ss_sp = all[i].stack;
		all[i].context.uc_stack.ss_size = 65536;
		makecontext(&all[i].context, body, 0);
		starting = &all[i];
		swapcontext(&starter, &all[i].context);
	}
	for (int turn = 0; turn < resumptions; turn++)
		for (int i = 0; i < count; i++) {
			resume(&all[i]);
			free(outside());
		}
	for (int i = 0; i < count; i++) {
		sum += all[i].done;
		free(all[i].stack);
	}
	free(all);
	printf("%d\n", sum);
	return failures;
}
