/* Coroutines that no library knows: a switch of a few instructions, as single-header libraries bring them along, over
   stacks from malloc, or one below the other in a mapping without guard pages (argument "map").
   usage: switches COROUTINES RESUMPTIONS [map] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STACK_BYTES 65536u

struct context {
	void *resume_at; /* whatever comes first in such a library */
	uintptr_t sp;
};

void context_switch(struct context *from, struct context *to);
__asm__(".text\n.globl context_switch\n.type context_switch, @function\ncontext_switch:\n"
	"push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"mov %rsp, 8(%rdi)\nmov 8(%rsi), %rsp\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
	".size context_switch, . - context_switch\n");

struct coroutine {
	struct context context;
	char *stack;
	int done, over;
};

static struct context home;
static struct coroutine *running;
static int resumptions;

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

static void body(void)
{
	struct coroutine *self = running;
	while (self->done < resumptions) {
		char *kept = crossing(48), *passing = staying(32);
		kept[0] = passing[0] = 1;
		free(passing);
		context_switch(&self->context, &home);
		free(kept);
		self->done++;
	}
	self->over = 1;
	context_switch(&self->context, &home);
	abort();
}

__attribute__((noinline)) void context_prepare(struct context *context, char *stack, size_t bytes, void (*entry)(void))
{
	uintptr_t *top =
		(uintptr_t *)(stack + bytes) - 4; /* the stack pointer at the entry is 8 above a multiple of 16 */
	top[0] = (uintptr_t)entry;
	top[1] = 0;
	memset(top - 6, 0, 6 * sizeof *top);
	context->sp = (uintptr_t)(top - 6);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, sum = 0, mapped = argc > 3;
	resumptions = argc > 2 ? atoi(argv[2]) : 100;
	struct coroutine *all = calloc((size_t)count, sizeof *all);
	char *map = mapped ? mmap(NULL, (size_t)count * STACK_BYTES, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
			   : NULL;
	for (int i = 0; i < count; i++) {
		all[i].stack = mapped ? map + (size_t)i * STACK_BYTES : malloc(STACK_BYTES);
		context_prepare(&all[i].context, all[i].stack, STACK_BYTES, body);
	}
	for (int turn = 0; turn <= resumptions; turn++)
		for (int i = 0; i < count; i++) {
			running = &all[i];
			context_switch(&home, &all[i].context);
		}
	for (int i = 0; i < count; i++) {
		sum += all[i].done + 1000 * all[i].over;
		if (!mapped)
			free(all[i].stack);
	}
	free(all);
	printf("%d\n", sum);
	return 0;
}
