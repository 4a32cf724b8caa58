/* FA902: a block is freed twice. Clean twin: once. A second argument `heap` makes it a block of the heap tier. */
#include "common.h"

SITE char *born_here(size_t size)
{
	return calloc(1, size);
}

SITE void freed_here(void *p)
{
	free(p);
}

int main(int argc, char **argv)
{
	bool clean = !strcmp(argv[1], "clean");
	const char *tier = argc > 2 ? argv[2] : "frame";
	if (strcmp(tier, "outside"))
		frame_mark();
	char *volatile below = born_here(64);
	char *volatile block = born_here(!strcmp(tier, "heap") ? 50000 : 1000);
	free(block);
	if (!clean)
		freed_here(block);
	free(below);
	free(malloc(10));
	return 0;
}
