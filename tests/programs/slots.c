/* A thread's slot goes to the next one: nothing of the thread before may act in it. The first argument says what is left. */
#include "common.h"

static volatile bool may_end;

SITE void SDL_GL_SwapWindow(void *window)
{
	(void)window;
	frame_mark();
	frame_mark();
	frame_mark();
}

static void *present(void *times)
{
	for (intptr_t i = 0; i < (intptr_t)times; i++) {
		SDL_GL_SwapWindow(NULL);
		free(malloc(100));
		usleep(2000);
	}
	return NULL;
}

static void *present_and_stay(void *times)
{
	present(times);
	while (!may_end)
		usleep(1000);
	return NULL;
}

static void *present_named(void *times)
{
	pthread_setname_np(pthread_self(), "third");
	return present(times);
}

/* A thread that another one takes the frames over from ends; the next to present has its slot. */
static void taken_over(void)
{
	pthread_t first, second, third;
	CHECK(pthread_create(&first, NULL, present_and_stay, (void *)30) == 0);
	usleep(200000);
	CHECK(pthread_create(&second, NULL, present, (void *)40) == 0 && pthread_join(second, NULL) == 0);
	may_end = true;
	CHECK(pthread_join(first, NULL) == 0);
	CHECK(pthread_create(&third, NULL, present_named, (void *)300) == 0 && pthread_join(third, NULL) == 0);
}

static void *handed[64];

static void *make(void *unused)
{
	for (int i = 0; i < 64; i++)
		handed[i] = malloc(65536);
	return unused;
}

/* Its sums fall below nothing: others allocate what it frees. */
static void frees_of_others(void)
{
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		frame_mark();
		CHECK(pthread_create(&thread, NULL, make, NULL) == 0 && pthread_join(thread, NULL) == 0);
		for (int j = 0; j < 64; j++)
			free(handed[j]);
	}
	frame_mark();
}

/* As many frames as are asked for. */
static void frames(int count)
{
	for (int i = 0; i < count; i++) {
		frame_mark();
		free(malloc(100));
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "taken-over"))
		taken_over();
	else if (argc > 1 && !strcmp(argv[1], "frees"))
		frees_of_others();
	else if (argc > 2)
		frames(atoi(argv[2]));
	return failures != 0;
}
