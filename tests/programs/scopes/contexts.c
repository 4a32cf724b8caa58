/* Scopes and stacks that change: swapcontext inside a scope, scopes on a coroutine's stack, coroutines that are left for
   good. contexts CASE [COUNT] */
#include "scopes.h"

#include <sys/mman.h>
#include <ucontext.h>

#define STACK_BYTES 65536

static ucontext_t home, away;
static void *stack;
static long sum;
static size_t stack_bytes = STACK_BYTES;

static void enter(void (*function)(void))
{
	getcontext(&away);
	away.uc_stack.ss_sp = stack;
	away.uc_stack.ss_size = stack_bytes;
	away.uc_link = &home;
	makecontext(&away, function, 0);
	swapcontext(&home, &away);
}

SITE static void m_work(long value)
{
	inside();
	sum = sum * 3 + value;
}

static void coroutine(void)
{
	inside();
	swapcontext(&away, &home);
	inside();
}

/* In and out of a coroutine, and the same scope goes on. */
SITE static void m_switches(void)
{
	enter(coroutine);
	inside();
	swapcontext(&home, &away);
	inside();
	sum++;
}

static void works(void)
{
	outside();
	scopes_begun++;
	m_work(1);
	outside();
}

SITE static void m_yields(void)
{
	inside();
	swapcontext(&away, &home);
	inside();
	sum++;
}

static void yields(void)
{
	m_yields();
	outside();
}

int main(int argc, char **argv)
{
	const char *name = argv[1];
	long count = number(argv, 2, 100);
	(void)argc;
	if (!strcmp(name, "small-stack")) {
		stack_bytes = 8192;
		name = "on-coroutine";
	}
	for (long i = 0; i < count; i++) {
		stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(stack != MAP_FAILED);
		if (!strcmp(name, "switches")) {
			scopes_begun++;
			m_switches();
		} else if (!strcmp(name, "on-coroutine")) {
			enter(works);
		} else if (!strcmp(name, "yields")) {
			scopes_begun++;
			enter(yields);
			sum++;
			swapcontext(&home, &away);
		} else if (!strcmp(name, "abandoned")) { /* its stack goes: nobody will ever come back to the scope */
			scopes_begun++;
			enter(yields);
			munmap(stack, STACK_BYTES);
			stack = NULL;
			scopes_begun++;
			m_work(i);
		} else {
			return 2;
		}
		if (stack)
			munmap(stack, STACK_BYTES);
		outside();
	}
	printf("%ld\n", sum);
	return finish();
}
