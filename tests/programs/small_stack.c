/* Threads with the smallest stack there is use every allocation function, miss paths and violations included. */
#include "common.h"

#include <limits.h>

static void *escaped;

SITE void deep(int depth)
{
	void *p = malloc((size_t)depth * 10 + 1), *q = calloc(1, 5000);
	if (depth)
		deep(depth - 1);
	p = realloc(p, 20000);
	free(q);
	free(p);
}

static void *worker(void *unused)
{
	frame_mark();
	void *mine = malloc(100);
	deep(20);
	free(escaped);
	frame_mark();
	free(mine);
	free(malloc(1 << 20));
	escaped = malloc(50);
	return unused;
}

int main(void)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	CHECK(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN > 16384 ? PTHREAD_STACK_MIN : 16384) == 0);
	for (int i = 0; i < 50; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, &attributes, worker, NULL) == 0);
		pthread_join(thread, NULL);
	}
	free(escaped);
	return failures;
}
