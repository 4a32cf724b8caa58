/* Eight threads make 30 MB each in a frame, free it and end; then main makes 200 MB. Prints resident MiB after both. */
#include "common.h"

#define THREADS 8
#define IN_FRAME 30000
#define BY_MAIN 200000

static pthread_barrier_t all;
static void *block[BY_MAIN];

SITE void *make(void)
{
	return memset(malloc(1000), 1, 1000);
}

static void *run(void *first)
{
	void **own = first;
	frame_mark();
	frame_mark();
	for (int i = 0; i < IN_FRAME; i++)
		own[i] = make();
	pthread_barrier_wait(&all);
	for (int i = 0; i < IN_FRAME; i++)
		free(own[i]);
	frame_mark();
	frame_mark();
	return NULL;
}

int main(void)
{
	static void *own[THREADS][IN_FRAME];
	pthread_t thread[THREADS];
	pthread_barrier_init(&all, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], NULL, run, own[i]) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	long ended = resident_kib() / 1024;
	for (int i = 0; i < BY_MAIN; i++)
		block[i] = make();
	printf("%ld %ld\n", ended, resident_kib() / 1024);
	return failures != 0;
}
