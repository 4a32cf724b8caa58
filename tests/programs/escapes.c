/* FRAMES frames with one escape each and ALIVE escaped blocks alive at a time, among scratch that dies in its frame. */
#include "common.h"

SITE void *escape(void)
{
	return malloc(100);
}

SITE void scratch(void)
{
	for (int i = 0; i < 3; i++)
		free(malloc(200));
}

int main(int argc, char **argv)
{
	long frames = argc > 1 ? atol(argv[1]) : 1000000, alive = argc > 2 ? atol(argv[2]) : 1000;
	void **ring = calloc((size_t)alive, sizeof *ring);
	for (long i = 0; i < frames; i++) {
		frame_mark();
		scratch();
		free(ring[i % alive]);
		ring[i % alive] = escape();
	}
	frame_mark();
	for (long i = 0; i < alive; i++)
		free(ring[i]);
	free(ring);
	return 0;
}
