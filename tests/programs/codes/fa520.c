/* FA520: in every frame a realloc moves a block from the frame tier to the heap. Clean twin: in every fourth. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(8000);
}

SITE void *moved_here(void *p)
{
	return realloc(p, 100000);
}

int main(int argc, char **argv)
{
	int period = argc > 1 && !strcmp(argv[1], "clean") ? 4 : 1;
	for (int frame = 0; frame < 400; frame++) {
		frame_mark();
		void *block = born_here();
		if (frame % period == 0)
			block = moved_here(block);
		free(block);
	}
	frame_mark();
	return 0;
}
