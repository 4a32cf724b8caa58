/* FRAMES frames of 400 blocks from one call path, all but one of which die there: a server that keeps one request in some
   hundreds. As many blocks of another path all die. Before that, HANDED frames' blocks are freed by another thread. */
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

static void *handed[BLOCKS];

SITE void hand(void)
{
	for (int i = 0; i < BLOCKS; i++)
		handed[i] = malloc(BYTES);
}

static void *free_handed(void *unused)
{
	(void)unused;
	for (int i = 0; i < BLOCKS; i++)
		free(handed[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	long frames = argc > 1 ? atol(argv[1]) : 600, others = argc > 2 ? atol(argv[2]) : 0;
	void *block[BLOCKS];
	pthread_t thread;
	for (long frame = 0; frame < others; frame++) {
		frame_mark();
		hand();
		CHECK(!pthread_create(&thread, NULL, free_handed, NULL) && !pthread_join(thread, NULL));
	}
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
