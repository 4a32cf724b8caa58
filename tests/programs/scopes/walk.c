/* What is on the stack inside a scope: the callers up to main, in order, by unwinding and by frame pointers' reader. */
#include "scopes.h"

#include <execinfo.h>
#include <unwind.h>

static const void *chain[] = {NULL, NULL, NULL, NULL};
int main(void);

SITE static long here(long a)
{
	void *frames[64];
	int count = backtrace(frames, 64);
	size_t found = 0;
	for (int i = 0; i < count; i++) {
		const void *function = _Unwind_FindEnclosingFunction((char *)frames[i] - 1);
		if (found < sizeof chain / sizeof chain[0] && function == chain[found])
			found++;
	}
	printf("%zu\n", found);
	fflush(stdout);
	return a + 1;
}

SITE static long m_inner(long a, long b, long c, long d, long e, long f, long g)
{
	inside();
	return here(a + b + c + d + e + f + g) + 1;
}

SITE static long m_outer(long a)
{
	inside();
	return m_inner(a, 2, 3, 4, 5, 6, 7) + 1;
}

SITE static long caller(long a)
{
	char room[300];
	memset(room, (int)a, sizeof room);
	scopes_begun++;
	return m_outer(a) + room[a];
}

int main(void)
{
	chain[0] = (void *)m_inner;
	chain[1] = (void *)m_outer;
	chain[2] = (void *)caller;
	chain[3] = (void *)main;
	outside();
	printf("%ld\n", caller(5));
	outside();
	return finish();
}
