/* A handler of a fault throws (-fnon-call-exceptions): the marked function's first instruction is the one that faults.
   faults [COUNT] */
#include "scopes.h"

static volatile long sum;

static void handler(int number)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, number);
	sigprocmask(SIG_UNBLOCK, &mask, nullptr);
	throw number;
}

SITE long m_load(const long *pointer)
{
	return *pointer * 12345 + 678;
}

int main(int, char **argv)
{
	static const long value = 5;
	long count = number(argv, 1, 10);
	signal(SIGSEGV, handler);
	for (long i = 0; i < count; i++) {
		scopes_begun++;
		try {
			sum += m_load(i % 2 ? nullptr : &value);
		} catch (int caught) {
			outside();
			sum += caught;
		}
		outside();
	}
	printf("%ld\n", sum);
	return finish();
}
