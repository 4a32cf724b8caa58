/* FA901: free of an address inside a block. Clean twin: of its start. An argument `heap`, `pool` or `frame` picks the tier. */
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
	char *block = born_here(!strcmp(tier, "heap") ? 50000 : 1000);
	freed_here(clean ? block : block + 64);
	if (!clean)
		free(block);
	free(malloc(10));
	return 0;
}
