/*
 * FA604: after two boundaries blocks pile up and no boundary comes. Clean twin: the same allocations, a boundary among
 * them. Run with never-ends-ms=200, never-ends-bytes=1M.
 */
#include "common.h"

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	static void *block[6000];
	frame_mark();
	frame_mark();
	frame_mark();
	for (int i = 0; i < 6000; i++) {
		block[i] = malloc(1000);
		if (i % 10 == 0)
			usleep(500);
		if (clean && i % 500 == 499) {
			for (int k = i - 499; k <= i; k++)
				free(block[k]);
			frame_mark();
		}
	}
	for (int i = 0; i < 6000 && !clean; i++)
		free(block[i]);
	return 0;
}
