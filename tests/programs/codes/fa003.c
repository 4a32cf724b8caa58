/* FA003: one frame holds 3 MiB of frame memory with frame-limit=1M. Clean twin: each block is freed at once. */
#include "common.h"

static void *held[3000];

SITE void *born_here(void)
{
	return malloc(1000);
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	frame_mark();
	for (int i = 0; i < 3000; i++) {
		held[i] = born_here();
		if (clean)
			free(held[i]);
	}
	for (int i = 0; i < 3000 && !clean; i++)
		free(held[i]);
	frame_mark();
	return 0;
}
