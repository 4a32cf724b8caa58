/* FRAMES frames of 400 blocks from one call path, all but one of which die there: a server that keeps one request in some
   hundreds. As many blocks of another path all die. */
#include "common.h"

enum { BLOCKS = 400, BYTES = 1000 };

SITE void *request(void)
{
	return malloc(BYTES);
}

SITE void *scratch(void)
{
	return malloc(BYTES);
}

int main(int argc, char **argv)
{
	long frames = argc > 1 ? atol(argv[1]) : 600;
	void *block[BLOCKS];
	for (long frame = 0; frame < frames; frame++) {
		frame_mark();
		for (int i = 0; i < BLOCKS; i++)
			block[i] = request();
		for (long i = 0; i < BLOCKS; i++)
			if (i != frame % BLOCKS)
				free(block[i]);
		for (int i = 0; i < BLOCKS; i++)
			block[i] = scratch();
		for (int i = 0; i < BLOCKS; i++)
			free(block[i]);
	}
	frame_mark();
	return failures != 0;
}
