/* Jumps out of scopes: every kind of longjmp, out of one or two scopes, out of handlers, and those that stay inside.
   jumps CASE [COUNT] */
#include "scopes.h"

#include <setjmp.h>

static jmp_buf back;
static sigjmp_buf signal_back;
static void *builtin_back[5];
static void *volatile escaped;
static volatile long sum;

SITE static void jump(int kind, int value)
{
	inside();
	escaped = escaping();
	switch (kind) {
	case 0:
		longjmp(back, value);
	case 1:
		_longjmp(back, value);
	case 2:
		siglongjmp(signal_back, value);
	default:
		raise(SIGUSR1);
	}
}

SITE static void m_jump(int kind, int value)
{
	inside();
	jump(kind, value);
	sum = -1;
}

SITE static void m_outer(int kind, int value)
{
	inside();
	m_jump(kind, value);
	sum = -1;
}

static void handler(int number)
{
	inside();
	siglongjmp(signal_back, number);
}

static void after(void)
{
	outside();
	free(escaped);
	outside();
}

static void out(void (*marked)(int, int), int kind, int count)
{
	for (volatile int i = 0; i < count; i++) {
		scopes_begun++;
		int value = kind >= 2 ? sigsetjmp(signal_back, 1) : setjmp(back);
		if (!value)
			marked(kind, i % 100 + 1);
		after();
		sum = sum * 3 + value;
	}
}

SITE static void m_builtin(void)
{
	inside();
	escaped = escaping();
	__builtin_longjmp(builtin_back, 1);
}

SITE static void builtin(void)
{
	if (__builtin_setjmp(builtin_back))
		sum++;
	else
		m_builtin();
	outside();
	free(escaped);
}

/* The jump's target lies inside the scope: it stays open. */
SITE static void m_stays(int kind, int value)
{
	int got = kind >= 2 ? sigsetjmp(signal_back, 1) : setjmp(back);
	if (!got)
		m_jump(kind, value);
	inside();
	sum = sum * 3 + got;
}

/* Recursion, left from the depths. */
SITE static void m_deep(int depth, int value)
{
	char room[200];
	memset(room, value, sizeof room);
	if (depth)
		m_deep(depth - 1, value);
	else
		jump(0, value);
	sum += room[7];
}

/* Two levels of setjmp: each jump leaves one scope of three. */
SITE static void m_level(int depth, int value)
{
	jmp_buf outer;
	memcpy(outer, back, sizeof back);
	if (!setjmp(back)) {
		if (depth)
			m_level(depth - 1, value);
		else
			jump(0, value);
	}
	inside();
	memcpy(back, outer, sizeof back);
	sum = sum * 3 + depth;
	longjmp(back, value + depth);
}

static void *on_thread(void *unused)
{
	jmp_buf here;
	if (!setjmp(here)) {
		memcpy(back, here, sizeof here);
		m_outer(0, 5);
	}
	after();
	scopes_begun++;
	return unused;
}

static void level(int kind, int value)
{
	m_level(kind, value);
}

int main(int argc, char **argv)
{
	const char *name = argv[1];
	int count = (int)number(argv, 2, 100);
	struct sigaction action = {.sa_handler = handler};
	stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
	(void)argc;
	sigaction(SIGUSR1, &action, NULL);
	outside();
	if (!strcmp(name, "longjmp"))
		out(m_jump, 0, count);
	else if (!strcmp(name, "_longjmp"))
		out(m_jump, 1, count);
	else if (!strcmp(name, "siglongjmp"))
		out(m_jump, 2, count);
	else if (!strcmp(name, "handler"))
		out(m_jump, 3, count);
	else if (!strcmp(name, "two-longjmp"))
		out(m_outer, 0, count);
	else if (!strcmp(name, "two-siglongjmp"))
		out(m_outer, 2, count);
	else if (!strcmp(name, "two-handler"))
		out(m_outer, 3, count);
	else if (!strcmp(name, "alternate-stack")) {
		action.sa_flags = SA_ONSTACK;
		sigaction(SIGUSR1, &action, NULL);
		sigaltstack(&alternate, NULL);
		out(m_outer, 3, count);
	} else if (!strcmp(name, "levels"))
		for (volatile int i = 0; i < count; i++) {
			scopes_begun++;
			if (!setjmp(back))
				level(2, i);
			after();
		}
	else if (!strcmp(name, "deep"))
		for (volatile int i = 0; i < count; i++) {
			scopes_begun++;
			if (!setjmp(back))
				m_deep(1000, i % 100);
			after();
		}
	else if (!strcmp(name, "stays"))
		for (volatile int i = 0; i < count; i++) {
			scopes_begun++;
			m_stays(i % 4, i % 100 + 1);
			after();
		}
	else if (!strcmp(name, "builtin"))
		for (volatile int i = 0; i < count; i++) {
			scopes_begun++;
			builtin();
			outside();
		}
	else if (!strcmp(name, "threads"))
		for (volatile int i = 0; i < count; i++) {
			pthread_t thread;
			CHECK(pthread_create(&thread, NULL, on_thread, NULL) == 0);
			pthread_join(thread, NULL);
		}
	else
		return 2;
	printf("%ld\n", sum);
	return finish();
}
