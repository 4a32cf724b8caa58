/* Coroutines on ucontext: each resumption makes one block that dies in it and one that the next one frees.
   usage: ucontext COROUTINES RESUMPTIONS */
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES 65536

static ucontext_t home;

struct coroutine {
	ucontext_t context;
	char *stack;
	int resumptions;
	int done;
};

static volatile int made; /* two functions of the same code would become one */

static __attribute__((noinline)) void *crossing(size_t size)
{
	made = 1;
	return malloc(size);
}

static __attribute__((noinline)) void *staying(size_t size)
{
	made = 2;
	return malloc(size);
}

static void body(unsigned low, unsigned high)
{
	struct coroutine *self = (struct coroutine *)((unsigned long)high << 32 | low);
	while (self->done < self->resumptions) {
		char *kept = crossing(48), *passing = staying(32);
		kept[0] = passing[0] = 1;
		free(passing);
		swapcontext(&self->context, &home);
		free(kept);
		self->done++;
	}
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, resumptions = argc > 2 ? atoi(argv[2]) : 100, sum = 0;
	struct coroutine *all = calloc((size_t)count, sizeof *all);
	for (int i = 0; i < count; i++) {
		unsigned long self = (unsigned long)&all[i];
		getcontext(&all[i].context);
		all[i].stack = malloc(STACK_BYTES);
		all[i].resumptions = resumptions;
		all[i].context.uc_stack.ss_sp = all[i].stack;
		all[i].context.uc_stack.ss_size = STACK_BYTES;
		all[i].context.uc_link = &home;
		makecontext(&all[i].context, (void (*)(void))body, 2, (unsigned)self, (unsigned)(self >> 32));
	}
	for (int turn = 0; turn <= resumptions; turn++)
		for (int i = 0; i < count; i++)
			swapcontext(&home, &all[i].context);
	for (int i = 0; i < count; i++) {
		sum += all[i].done;
		free(all[i].stack);
	}
	free(all);
	printf("%d\n", sum);
	return 0;
}
