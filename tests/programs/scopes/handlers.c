/* Signal handlers and scopes: handlers that run inside one, that call marked functions, that jump out, at any instruction.
   handlers CASE [COUNT] */
#include "scopes.h"

#include <setjmp.h>
#include <sys/time.h>

static sigjmp_buf back;
static volatile long sum, arrived;
static bool jumps;

SITE static long m_work(long value)
{
	inside();
	return value * 3 + 1;
}

/* Short and without an allocation: the program may interrupt it anywhere and never return to it. */
SITE static unsigned m_spin(unsigned value)
{
	return value * 2654435761u + 1;
}

SITE static void m_raises(long value)
{
	inside();
	raise(SIGUSR1);
	inside();
	sum += value;
}

static void working(int number)
{
	sum = m_work(sum & 0xffff) + number;
	if (jumps)
		siglongjmp(back, number);
}

SITE static void m_jumps(long value)
{
	inside();
	sum += value;
	siglongjmp(back, 1);
}

static void jumping(int number)
{
	m_jumps(number);
}

static void counting(int number)
{
	(void)number;
	arrived = arrived + 1;
	sum = sum ^ (long)m_spin(7);
}

static void leaving(int number)
{
	arrived = arrived + 1;
	siglongjmp(back, number);
}

static void on_signal(void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
}

static void timer(long us)
{
	struct itimerval every = {{0, us}, {0, us}};
	setitimer(ITIMER_REAL, &every, NULL);
}

/* What comes after the storm is counted exactly: nothing may be left half done. */
static void calm(void)
{
	timer(0);
	sum = 0;
	scopes_begun = 100;
	for (int i = 0; i < 100; i++) {
		sum = m_work(sum & 0xffff);
		outside();
	}
}

int main(int argc, char **argv)
{
	const char *name = argv[1];
	volatile long count = number(argv, 2, 100);
	stack_t alternate = {.ss_sp = malloc(65536), .ss_size = 65536};
	(void)argc;
	sigaltstack(&alternate, NULL);
	bool on_alternate = !strncmp(name, "alternate-", 10);
	if (on_alternate)
		name += 10;
	int flags = on_alternate ? SA_ONSTACK : 0;
	outside();
	if (!strcmp(name, "inside") || !strcmp(name, "inside-jump")) {
		on_signal(working, flags);
		jumps = !strcmp(name, "inside-jump");
		for (volatile long i = 0; i < count; i++) {
			scopes_begun++;
			if (!sigsetjmp(back, 1))
				m_raises(i);
			outside();
		}
	} else if (!strcmp(name, "outside")) {
		on_signal(working, flags);
		for (long i = 0; i < count; i++) {
			scopes_begun++;
			raise(SIGUSR1);
			outside();
		}
	} else if (!strcmp(name, "jump")) { /* a handler's own scope is left */
		on_signal(jumping, flags);
		for (volatile long i = 0; i < count; i++) {
			scopes_begun++;
			if (!sigsetjmp(back, 1))
				raise(SIGUSR1);
			outside();
		}
	} else if (!strcmp(name, "storm")) {
		on_signal(counting, flags);
		timer(200);
		unsigned value = 1;
		while (arrived < count)
			value = m_spin(value);
		calm();
	} else if (!strcmp(name, "storm-jump")) {
		on_signal(leaving, flags);
		sigsetjmp(back, 1);
		timer(200);
		unsigned value = 1;
		while (arrived < count)
			value = m_spin(value);
		calm();
	} else {
		return 2;
	}
	printf("%ld\n", sum);
	return finish();
}
