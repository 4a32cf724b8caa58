/* FA603: a frame's block is held across an await point. Clean: it is freed before. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(100);
}

SITE void freed_here(void *block)
{
	free(block);
}

static volatile int awaited;
SITE void await_here(void)
{
	awaited++;
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	for (int i = 0; i < 3; i++) {
		frame_mark();
		void *block = born_here();
		if (clean)
			freed_here(block);
		await_here();
		if (!clean)
			freed_here(block);
	}
	frame_mark();
	return failures;
}
