/* FA530: 101 heap-tier allocations of one site within a frame. Clean twin: 100, the limit. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(40000);
}

int main(int argc, char **argv)
{
	int count = argc > 1 && !strcmp(argv[1], "clean") ? 100 : 101;
	frame_mark();
	for (int i = 0; i < count; i++)
		free(born_here());
	frame_mark();
	return 0;
}
