/* All allocations go through a wrapper of the program's own: what a few callers keep, and what most give back at once. */
#include "common.h"

static void *kept[200];

SITE void *wrapped(size_t bytes)
{
	void *made = malloc(bytes);
	__asm__ volatile("" : "+r"(made));
	return made;
}

SITE void scratch(void)
{
	for (int i = 0; i < 500; i++)
		free(wrapped(64));
}

SITE void keep(int frame)
{
	free(kept[frame % 200]);
	kept[frame % 200] = wrapped(64);
}

int main(void)
{
	for (int frame = 0; frame < 1000; frame++) {
		scratch();
		keep(frame);
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	return failures;
}
