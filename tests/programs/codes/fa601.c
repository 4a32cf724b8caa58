/* FA601: a block is freed in the frame after its own, another never. Clean twin: both die in their frame. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(100);
}

SITE void *never_freed(void)
{
	return malloc(200);
}

SITE void freed_here(void *p)
{
	free(p);
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	frame_mark();
	void *block = born_here();
	void *volatile leak = never_freed();
	if (clean)
		free(leak);
	if (!clean)
		frame_mark();
	freed_here(block);
	frame_mark();
	return 0;
}
