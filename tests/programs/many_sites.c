/* Call paths without end: recursion whose turns differ, so that every allocation has a path of its own. Arguments: how many,
   and how often all of them are gone through. */
#include "common.h"

static void *kept[1024];

SITE void *left(unsigned path, int depth);

SITE void *right(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(48);
	__asm__ volatile("" : "+r"(p));
	return p;
}

SITE void *left(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(80);
	__asm__ volatile("" : "+r"(p));
	return p;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 200000, rounds = argc > 2 ? atol(argv[2]) : 1;
	for (long i = 0; i < count * rounds; i++) {
		if (i % 50 == 0)
			frame_mark();
		free(kept[i & 1023]);
		kept[i & 1023] = left((unsigned)(i % count) * 2654435761u, 20);
	}
	frame_mark();
	for (int i = 0; i < 1024; i++)
		free(kept[i]);
	return 0;
}
