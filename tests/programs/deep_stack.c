/* Uses most of the first thread's stack, of 8 MiB. */
#include "common.h"

enum { STEP = 64 << 10, STEPS = 112 };

SITE int deep(int left)
{
	volatile char room[STEP];
	for (size_t at = 0; at < sizeof room; at += 4096)
		room[at] = (char)left;
	return left ? deep(left - 1) + room[0] * 0 : room[0];
}

int main(void)
{
	free(malloc(100));
	CHECK(deep(STEPS) == 0);
	return failures;
}
