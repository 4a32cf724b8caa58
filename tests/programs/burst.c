/* One frame with 4 MiB of blocks, then QUIET frames with a few: the room of the first is not needed again. */
#include "common.h"

SITE void blocks(int count)
{
	void *block[4096];
	for (int i = 0; i < count; i++)
		block[i] = malloc(1024);
	for (int i = 0; i < count; i++)
		free(block[i]);
}

int main(int argc, char **argv)
{
	long quiet = argc > 1 ? atol(argv[1]) : 200;
	frame_mark();
	blocks(4096);
	for (long i = 0; i < quiet; i++) {
		frame_mark();
		blocks(10);
	}
	frame_mark();
	return 0;
}
