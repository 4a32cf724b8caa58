/*
 * Loops that a frame boundary can be found in, or must not: `loops KIND`. Each prints what it did. What an engine does
 * between two waits is an allocation that dies and one that lives for two turns.
 */
#include "common.h"
#include <dlfcn.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static void *kept[2];
static long turns;

SITE void work(void)
{
	free(malloc(100));
	free(kept[turns % 2]);
	kept[turns % 2] = malloc(50);
	turns++;
}

static void pause_ms(int ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&time, NULL);
}

static void *sleeper(void *count)
{
	for (long i = 0; i < (long)(intptr_t)count; i++)
		pause_ms(2);
	return NULL;
}

static void compute_ms(int ms)
{
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		free(malloc(64));
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static void loop_nanosleep(int n)
{
	while (n--)
		work(), pause_ms(3);
}
static void loop_clock(int n)
{
	struct timespec time = {0, 3000000};
	while (n--)
		work(), clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}
static void loop_usleep(int n)
{
	while (n--)
		work(), usleep(3000);
}
static void loop_poll(int n)
{
	while (n--)
		work(), poll(NULL, 0, 3);
}
static void loop_select(int n)
{
	while (n--) {
		struct timeval time = {0, 3000};
		work();
		select(0, NULL, NULL, NULL, &time);
	}
}
static void loop_epoll(int n)
{
	struct epoll_event event;
	int fd = epoll_create1(0);
	while (n--)
		work(), epoll_wait(fd, &event, 1, 3);
	close(fd);
}
/* Looks for events without waiting, as X clients do, and paces itself by sleeping. */
static void loop_looks(int n)
{
	while (n--)
		work(), poll(NULL, 0, 0), pause_ms(3);
}
/* Waits for its loader at first. */
static void loop_burst(int n)
{
	for (int i = 0; i < 40; i++)
		pause_ms(1);
	loop_poll(n);
}
/* So long at first that the sleep is taken; then an event loop takes over. */
static void loop_long_burst(int n)
{
	for (int i = 0; i < 300; i++)
		pause_ms(2);
	loop_poll(n);
}
static void loop_worker(int n)
{
	pthread_t thread;
	pthread_create(&thread, NULL, sleeper, (void *)(intptr_t)n);
	compute_ms(n * 3);
	pthread_join(thread, NULL);
}
static void loop_irregular(int n)
{
	(void)n;
	for (int i = 0, ms = 1; i < 10; i++, ms *= 2)
		pause_ms(ms);
}
static void loop_few(int n)
{
	(void)n;
	for (int i = 0; i < 3; i++)
		pause_ms(50);
}
static void loop_none(int n)
{
	compute_ms(n);
}

/* A library that shows pictures, loaded where only its loader sees it. */
static void (*load_present(void))(void *)
{
	void *library = dlopen(getenv("PRESENT_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
	void (*present)(void *) = library ? (void (*)(void *))dlsym(library, "SDL_RenderPresent") : NULL;
	CHECK(present != NULL);
	return present;
}

static void loop_present(int n)
{
	void (*present)(void *) = load_present();
	while (n--)
		work(), present(NULL), pause_ms(2);
}
static void *presenter(void *count)
{
	pthread_setname_np(pthread_self(), "render");
	loop_present((int)(intptr_t)count);
	return NULL;
}
static void loop_present_thread(int n)
{
	pthread_t thread;
	pthread_create(&thread, NULL, presenter, (void *)(intptr_t)n);
	pthread_join(thread, NULL);
}
/* A loading screen that sleeps for long, then the game. */
static void loop_late_present(int n)
{
	loop_nanosleep(150);
	loop_present(n);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		void (*run)(int);
	} kinds[] = {{"nanosleep", loop_nanosleep},
		     {"clock", loop_clock},
		     {"usleep", loop_usleep},
		     {"poll", loop_poll},
		     {"select", loop_select},
		     {"epoll", loop_epoll},
		     {"looks", loop_looks},
		     {"burst", loop_burst},
		     {"long-burst", loop_long_burst},
		     {"worker", loop_worker},
		     {"irregular", loop_irregular},
		     {"few", loop_few},
		     {"none", loop_none},
		     {"present", loop_present},
		     {"present-thread", loop_present_thread},
		     {"late-present", loop_late_present}};
	for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].kind))
			kinds[i].run(atoi(argv[2]));
	for (int i = 0; i < 2; i++)
		free(kept[i]);
	printf("%ld turns\n", turns);
	return failures;
}
