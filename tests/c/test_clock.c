/* sources: core/base.c; libs: -pthread */
/* The time of markers, asked for as fast as can be: never before the one before, never far from the kernel's, whatever the
   counter does. */
#define _GNU_SOURCE
#include <assert.h>
#include <stdio.h>
#include <stdint.h>
#include <time.h>

static uint64_t counter_jump; /* what a counter tells that is not the one of before */
static int counter_speed = 1;
static unsigned long long counter(void);
#define __builtin_ia32_rdtsc counter
#include "core/clock.c"
#undef __builtin_ia32_rdtsc

static unsigned long long counter(void)
{
	return __builtin_ia32_rdtsc() * (unsigned)counter_speed + counter_jump;
}

static unsigned long readings;

void patch_guarded(void (*function)(void *a, void *b), void *a, void *b)
{
	readings++;
	function(a, b);
}

struct seen {
	unsigned long asked, readings;
	uint64_t off_ns; /* at most, from the kernel's clock just before and after */
};

static struct seen ask_for(struct clock *clock, uint64_t ns)
{
	struct seen seen = {0};
	uint64_t begin = base_now_ns(), last = clock->last, after;
	readings = 0;
	do {
		uint64_t before = base_now_ns(), now = clock_now(clock);
		after = base_now_ns();
		assert(now >= last);
		uint64_t off = now < before ? before - now : now > after ? now - after : 0;
		if (off > seen.off_ns)
			seen.off_ns = off;
		last = now;
		seen.asked++;
	} while (after - begin < ns);
	seen.readings = readings;
	return seen;
}

#define MS 1000000u

/* A machine may stop us between two readings, but not for the counter alone: it goes on meanwhile. */
static void test_it_is_learned(struct clock *clock)
{
	struct seen first = ask_for(clock, 10 * MS);
	assert(first.readings == first.asked); /* nothing is believed yet */
	ask_for(clock, 100 * MS);
	struct seen then = ask_for(clock, 100 * MS);
	printf("%lu asked, %lu read, off by %lu ns\n", then.asked, then.readings, (unsigned long)then.off_ns);
	assert(clock_believed_cycles && then.readings < then.asked / 2);
	assert(then.off_ns <= BELIEVED_NS);
}

static void test_counters_that_jump(struct clock *clock)
{
	static const int64_t jumps[] = {1 << 30, -(1 << 30), INT64_MAX, 1000, -1000, 200000, -200000};
	for (unsigned i = 0; i < sizeof jumps / sizeof *jumps; i++) {
		counter_jump += (uint64_t)jumps[i];
		struct seen seen = ask_for(clock, 50 * MS);
		assert(seen.off_ns <= 2 * BELIEVED_NS);
	}
}

static void test_another_speed(struct clock *clock)
{
	counter_speed = 3;
	struct seen seen = ask_for(clock, 100 * MS);
	assert(seen.off_ns <= 3 * BELIEVED_NS);
	seen = ask_for(clock, 100 * MS);
	assert(clock_believed_cycles && seen.readings < seen.asked / 2); /* learned anew */
	counter_speed = 1;
	seen = ask_for(clock, 100 * MS);
	assert(seen.off_ns <= 3 * BELIEVED_NS);
}

static void test_who_asks_rarely_reads(struct clock *clock)
{
	for (int i = 0; i < 20; i++) {
		struct timespec pause = {.tv_nsec = MS};
		nanosleep(&pause, NULL);
		readings = 0;
		clock_now(clock);
		assert(readings == 1);
	}
}

int main(void)
{
	struct clock clock = {0};
	test_it_is_learned(&clock);
	test_counters_that_jump(&clock);
	test_another_speed(&clock);
	test_who_asks_rarely_reads(&clock);
	return 0;
}
