/*
 * The primitives of the hot paths, each alone in a loop between two requests to callgrind, which counts its instructions
 * (bench/instructions.py). A first pass warms up: call paths are learned, spans and slabs are there. What the loop itself
 * takes is dumped under the same name with " floor" behind it, and subtracted.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <valgrind/callgrind.h>

#define KEEP __attribute__((noinline, noipa))
#define COUNT 8192 /* a multiple of what the call-path cache re-verifies after */

KEEP void bench_frame(void)
{
	__asm__ volatile("" ::: "memory");
}
KEEP void bench_awaited(void)
{
	__asm__ volatile("" ::: "memory");
}
KEEP void bench_region(void)
{
	__asm__ volatile("" ::: "memory");
}
KEEP void unmarked(void)
{
	__asm__ volatile("" ::: "memory");
}

static void *block[COUNT];
static const char *where;

static void begin(void)
{
	CALLGRIND_ZERO_STATS;
}

static void end(int pass, const char *name)
{
	static char text[64];
	snprintf(text, sizeof text, "%s%s", where, name);
	if (pass)
		CALLGRIND_DUMP_STATS_AT(text);
}

#define ALONE(name, ...)                                                                                               \
	for (int pass = 0; pass < 2; pass++) {                                                                         \
		begin();                                                                                               \
		for (int i = 0; i < COUNT; i++) {                                                                      \
			__asm__ volatile("" ::: "memory");                                                             \
			__VA_ARGS__;                                                                                   \
		}                                                                                                      \
		end(pass, name);                                                                                       \
	}

/* A phase of several that need each other, inside a loop over `pass`. */
#define PHASE(name, ...) PHASE_OF(pass, name, __VA_ARGS__)
#define PHASE_OF(pass, name, ...)                                                                                      \
	begin();                                                                                                       \
	for (int i = 0; i < COUNT; i++)                                                                                \
		__VA_ARGS__;                                                                                           \
	end(pass, name)

static KEEP void many(void)
{
	for (int pass = 0; pass < 2; pass++) {
		PHASE("malloc 64", block[i] = malloc(64));
		PHASE("free 64", free(block[i]));
	}
	for (int pass = 0; pass < 2; pass++) {
		PHASE("malloc 16 to 512", block[i] = malloc((size_t)(16 + i * 37 % 497)));
		PHASE("free 16 to 512, in mixed order", free(block[i * 4099 % COUNT]));
	}
	for (int pass = 0; pass < 2; pass++) {
		PHASE("calloc 64", block[i] = calloc(1, 64));
		PHASE("realloc 64 to 80", block[i] = realloc(block[i], 80));
		PHASE("realloc 80 to 72", block[i] = realloc(block[i], 72));
		PHASE("(emptied)", free(block[i]));
	}
	ALONE("malloc and free 64", void *made = malloc(64); __asm__ volatile("" : "+r"(made)); free(made));
	ALONE("malloc and free 64 floor", void *made = NULL; __asm__ volatile("" : "+r"(made)));
}

static KEEP void after_its_frame(void)
{
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < COUNT; i++)
			block[i] = malloc(64);
		bench_frame();
		PHASE("free 64 of an earlier frame", free(block[i]));
	}
}

struct turn {
	pthread_t thread;
	int pass;
};

static void *free_all(void *given)
{
	const struct turn *turn = given;
	free(malloc(1)); /* what a thread takes to begin with is not counted */
	PHASE_OF(turn->pass, "free 64 of another thread", free(block[i]));
	return NULL;
}

static KEEP void by_another_thread(void)
{
	for (int pass = 0; pass < 2; pass++) {
		struct turn turn = {.pass = pass};
		for (int i = 0; i < COUNT; i++)
			block[i] = malloc(64);
		pthread_create(&turn.thread, NULL, free_all, &turn);
		pthread_join(turn.thread, NULL);
		bench_frame();
	}
}

static KEEP void leaf(bool really)
{
	if (really) {
		void *made = malloc(64);
		__asm__ volatile("" : "+r"(made));
		free(made);
	}
	__asm__ volatile("" ::: "memory");
}

static KEEP void down(int depth, bool really)
{
	if (depth)
		down(depth - 1, really);
	else
		leaf(really);
	__asm__ volatile("" ::: "memory");
}

static KEEP void at_depths(void)
{
	static const int depths[] = {5, 10, 20};
	for (int d = 0; d < 3; d++) {
		char name[40];
		snprintf(name, sizeof name, "malloc and free at depth %d", depths[d]);
		ALONE(name, down(depths[d] - 4, true)); /* main, this, leaf and _start are on the path too */
		snprintf(name, sizeof name, "malloc and free at depth %d floor", depths[d]);
		ALONE(name, down(depths[d] - 4, false));
	}
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* As in a program that has run for a while: older frames are merged, and the clock's rate is known (core/clock.h). */
static KEEP void run_for_a_while(void)
{
	double begin = seconds();
	for (int frames = 0; frames < 20000 || seconds() - begin < 0.1; frames++)
		bench_frame();
}

int main(void)
{
	where = "no frame: ";
	many();
	bench_frame();
	bench_frame();
	where = "frame: ";
	many();
	after_its_frame();
	by_another_thread();
	at_depths();
	where = "marker: ";
	ALONE("await, entered", bench_awaited());
	ALONE("await, entered floor", unmarked());
	ALONE("region, entered and left", bench_region());
	ALONE("region, entered and left floor", unmarked());
	run_for_a_while();
	ALONE("frame boundary", bench_frame());
	ALONE("frame boundary floor", unmarked());
	return 0;
}
