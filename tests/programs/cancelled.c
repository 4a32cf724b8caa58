/* malloc and realloc are no cancellation points: a thread with a cancellation pending allocates over so many call paths that the
   recording grows, makes blocks larger that have to move, and ends by itself. */
#include "common.h"

static int reached;

SITE void spread(int depth, unsigned bits)
{
	if (!depth)
		free(malloc(16));
	else if (bits & 1)
		spread(depth - 1, bits >> 1);
	else
		spread(depth - 1, bits >> 1);
	__asm__ volatile("");
}

SITE void grow(void)
{
	char *block = NULL;
	for (size_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 2) {
		char *grown = realloc(block, bytes), *after = malloc(bytes);
		CHECK(grown && after);
		memset(grown + bytes / 2, 1, bytes / 2);
		block = grown;
		free(after);
	}
	free(block);
}

static void *worker(void *argument)
{
	pthread_cancel(pthread_self());
	for (unsigned i = 0; i < 1 << 13; i++)
		spread(13, i);
	grow();
	reached = 1;
	return argument;
}

int main(void)
{
	pthread_t thread;
	void *result = NULL;
	CHECK(pthread_create(&thread, NULL, worker, &reached) == 0 && pthread_join(thread, &result) == 0);
	CHECK(reached && result == &reached);
	for (unsigned i = 0; i < 1 << 13; i++)
		spread(14, i | 0x2000);
	return failures;
}
