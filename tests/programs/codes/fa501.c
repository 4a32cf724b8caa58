/* FA501: a frame-tier block lives 61 frames. Clean twin: 60, the limit. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(100);
}

int main(int argc, char **argv)
{
	int life = argc > 1 && !strcmp(argv[1], "clean") ? 60 : 61;
	frame_mark();
	void *block = born_here();
	for (int i = 0; i < life; i++)
		frame_mark();
	free(block);
	return 0;
}
