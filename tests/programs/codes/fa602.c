/* FA602: 1,001 allocations of one site within a frame. Clean twin: 1,000, the limit, in each of two frames. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(24);
}

int main(int argc, char **argv)
{
	int count = argc > 1 && !strcmp(argv[1], "clean") ? 1000 : 1001;
	for (int frame = 0; frame < 2; frame++) {
		frame_mark();
		for (int i = 0; i < count; i++)
			free(born_here());
	}
	frame_mark();
	return 0;
}
