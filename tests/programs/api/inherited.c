/* Thread A makes frame memory and another resizes it; A ends with its frame open. C, who gets A's slot, ends frames of its own:
   the block is none of its. */
#include "../common.h"

#include "framealloc.h"

static char *block;
static pthread_barrier_t met;

static void *leaves_its_frame_open(void *unused)
{
	fa_frame_begin();
	block = fa_frame_alloc(100);
	pthread_barrier_wait(&met);
	pthread_barrier_wait(&met);
	return unused;
}

static void *ends_frames(void *unused)
{
	for (int i = 0; i < 3; i++) {
		fa_frame_begin();
		fa_frame_alloc(10);
		fa_frame_end();
	}
	return unused;
}

int main(void)
{
	static const char text[] = "live data";
	pthread_t thread;
	pthread_barrier_init(&met, NULL, 2);
	CHECK(pthread_create(&thread, NULL, leaves_its_frame_open, NULL) == 0);
	pthread_barrier_wait(&met);
	block = fa_realloc(block, 200);
	strcpy(block, text);
	pthread_barrier_wait(&met);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pthread_create(&thread, NULL, ends_frames, NULL) == 0 && pthread_join(thread, NULL) == 0);
	for (int i = 0; i < 64; i++) {
		char *other = fa_pool_alloc(200);
		CHECK(other != block);
		memset(other, 'x', 200);
	}
	CHECK(!strcmp(block, text));
	return failures != 0;
}
