/*
 * The workloads of the bench: plain malloc, free and realloc, fixed seed, no API. `workloads NAME SCALE` prints
 * nanoseconds per operation (CPU time; wall time for async), the median of its rounds. A frame ends at each call of
 * bench_frame. Compiled with -DFLOOR, memory comes from a bump pointer and is never freed: what is left is the program.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEEP __attribute__((noinline, noipa))
#define ROUNDS 9

#ifdef FLOOR
static char arena[64u << 20];
static size_t arena_used;
static void *take(size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if (arena_used + size > sizeof arena)
		arena_used = 0;
	arena_used += size;
	return arena + arena_used - size;
}
#define malloc take
#define free(pointer) ((void)(pointer))
#define realloc(pointer, size) ((void)(pointer), take(size))
#endif

static volatile unsigned frames;

KEEP void bench_frame(void)
{
	frames = frames + 1;
	__asm__ volatile("" ::: "memory");
}

KEEP int bench_marked(int value)
{
	__asm__ volatile("" ::: "memory");
	return value + 1;
}

static uint64_t random_state = 88172645463325252ull;
static uint32_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32);
}

static double now_ns(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Forty call sites, 5 to 25 calls deep. */

#define SITES 40
typedef void *(*site_fn)(size_t size, int depth);
#define SITE(n)                                                                                                        \
	KEEP static void *site_##n(size_t size, int depth)                                                             \
	{                                                                                                              \
		void *block = depth > 0 ? site_##n(size, depth - 1) : malloc(size);                                    \
		__asm__ volatile("" : "+r"(block));                                                                    \
		return block;                                                                                          \
	}
#define TEN(m, d) m(d##0) m(d##1) m(d##2) m(d##3) m(d##4) m(d##5) m(d##6) m(d##7) m(d##8) m(d##9)
TEN(SITE, 1)
TEN(SITE, 2)
TEN(SITE, 3)
TEN(SITE, 4)
#define NAME(n) site_##n,
static const site_fn sites[SITES] = {TEN(NAME, 1) TEN(NAME, 2) TEN(NAME, 3) TEN(NAME, 4)};

static void *at_site(uint32_t site, size_t size)
{
	return sites[site % SITES](size, 2 + (int)(site % SITES) / 2);
}

/* Workloads: each returns how many operations it did. */

#define BLOCKS 1000
static void *block[BLOCKS];
static uint16_t order[BLOCKS];

static void shuffle(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		order[i] = (uint16_t)i;
	for (uint32_t i = BLOCKS - 1; i; i--) {
		uint32_t j = next_random() % (i + 1);
		uint16_t kept = order[i];
		order[i] = order[j];
		order[j] = kept;
	}
}

static size_t work_frame(size_t scale)
{
	for (size_t f = 0; f < scale; f++) {
		bench_frame();
		for (uint32_t i = 0; i < BLOCKS; i++)
			block[i] = at_site(i * 7 + (uint32_t)f, 16 + (i * 37 + f * 11) % 497);
		for (uint32_t i = 0; i < BLOCKS; i++)
			free(block[order[i]]);
	}
	return scale * BLOCKS;
}

/* 80 % die in the frame, 15 % live 2 to 30 frames, 5 % long. */
#define LATER 32
#define LONG 20000
static size_t work_mixed(size_t scale)
{
	static void *later[LATER][BLOCKS], *longer[LONG];
	static uint32_t later_count[LATER], longer_at;
	for (size_t f = 0; f < scale; f++) {
		bench_frame();
		uint32_t count = 0, *due = &later_count[f % LATER];
		while (*due)
			free(later[f % LATER][--*due]);
		for (uint32_t i = 0; i < BLOCKS; i++) {
			uint32_t kind = i % 20;
			void *made = at_site(kind < 16 ? i % 30 : 30 + i % 10, 16 + (i * 37 + f * 11) % 497);
			if (kind < 16) {
				block[count++] = made;
			} else if (kind < 19) {
				uint32_t when = (uint32_t)(f + 2 + i % 29) % LATER;
				later[when][later_count[when]++] = made;
			} else {
				free(longer[longer_at % LONG]);
				longer[longer_at++ % LONG] = made;
			}
		}
		for (uint32_t i = 0; i < count; i++)
			free(block[count - 1 - i]);
	}
	return scale * BLOCKS;
}

#define PARTICLES 10000
static size_t work_particles(size_t scale)
{
	static void *particle[PARTICLES];
	for (size_t f = 0; f < scale; f++) {
		bench_frame();
		for (int i = 0; i < PARTICLES; i++)
			particle[i] = malloc(64);
		for (int i = 0; i < PARTICLES; i++)
			free(particle[i]);
	}
	return scale * PARTICLES;
}

static size_t work_pair(size_t scale)
{
	bench_frame();
	for (size_t i = 0; i < scale * 1000; i++) {
		void *made = malloc(64);
		__asm__ volatile("" : "+r"(made));
		free(made);
	}
	return scale * 1000;
}

static size_t work_batch(size_t scale)
{
	for (size_t f = 0; f < scale; f++) {
		if (!(f % 100))
			bench_frame();
		for (int i = 0; i < 1000; i++)
			block[i] = malloc(64);
		for (int i = 0; i < 1000; i++)
			free(block[i]);
	}
	return scale * 1000;
}

static size_t work_realloc(size_t scale)
{
	size_t calls = 0;
	for (size_t f = 0; f < scale; f++) {
		bench_frame();
		for (int v = 0; v < 10; v++) {
			char *vector = NULL;
			for (size_t size = 16; size <= 65536; size += size / 2, calls++)
				vector = realloc(vector, size);
			free(vector);
		}
	}
	return calls;
}

/* Main produces, three named workers free. */
#define QUEUE 1024
struct queue {
	void *item[QUEUE];
	_Atomic size_t head, tail;
};
static struct queue queues[3];
static _Atomic bool over;

static void *consume(void *given)
{
	struct queue *queue = given;
	for (;;) {
		size_t head = queue->head;
		if (head == queue->tail) {
			if (over)
				return NULL;
			sched_yield();
			continue;
		}
		for (size_t end = queue->tail; head != end; head++)
			free(queue->item[head % QUEUE]);
		queue->head = head;
	}
}

static size_t work_async(size_t scale)
{
	pthread_t thread[3];
	over = false;
	for (int i = 0; i < 3; i++) {
		char name[16];
		queues[i].head = queues[i].tail = 0;
		pthread_create(&thread[i], NULL, consume, &queues[i]);
		snprintf(name, sizeof name, "worker-%d", i);
		pthread_setname_np(thread[i], name);
	}
	for (size_t n = 0; n < scale * 1000; n++) {
		if (!(n % 1000))
			bench_frame();
		struct queue *queue = &queues[n % 3];
		while (queue->tail - queue->head == QUEUE)
			sched_yield();
		queue->item[queue->tail % QUEUE] = malloc(16 + n % 240);
		queue->tail++;
	}
	over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	return scale * 1000;
}

static size_t work_marked(size_t scale)
{
	int sum = 0;
	for (size_t i = 0; i < scale * 1000; i++)
		sum += bench_marked((int)i);
	return sum == 42 ? 1 : scale * 1000;
}

static size_t work_boundary(size_t scale)
{
	for (size_t i = 0; i < scale * 1000; i++)
		bench_frame();
	return scale * 1000;
}

/* One thread's share of a run on several: `threads-N`. */
static size_t threads_scale;
static void *pair_thread(void *unused)
{
	work_pair(threads_scale);
	return unused;
}

static size_t work_threads(size_t scale, int count)
{
	pthread_t thread[64];
	threads_scale = scale;
	for (int i = 0; i < count; i++)
		pthread_create(&thread[i], NULL, pair_thread, NULL);
	for (int i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
	return scale * 1000 * (size_t)count;
}

static size_t work_threads_1(size_t scale)
{
	return work_threads(scale, 1);
}
static size_t work_threads_2(size_t scale)
{
	return work_threads(scale, 2);
}
static size_t work_threads_4(size_t scale)
{
	return work_threads(scale, 4);
}
static size_t work_threads_8(size_t scale)
{
	return work_threads(scale, 8);
}

static int ascending(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return a < b ? -1 : a > b;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		size_t (*run)(size_t scale);
		size_t scale; /* about 20 ms a round */
		clockid_t clock;
	} all[] = {{"frame", work_frame, 800, CLOCK_PROCESS_CPUTIME_ID},
		   {"mixed", work_mixed, 800, CLOCK_PROCESS_CPUTIME_ID},
		   {"particles", work_particles, 150, CLOCK_PROCESS_CPUTIME_ID},
		   {"pair", work_pair, 3000, CLOCK_PROCESS_CPUTIME_ID},
		   {"batch", work_batch, 2000, CLOCK_PROCESS_CPUTIME_ID},
		   {"realloc", work_realloc, 1000, CLOCK_PROCESS_CPUTIME_ID},
		   {"async", work_async, 300, CLOCK_MONOTONIC},
		   {"marked", work_marked, 1000, CLOCK_PROCESS_CPUTIME_ID},
		   {"boundary", work_boundary, 200, CLOCK_PROCESS_CPUTIME_ID},
		   {"threads-1", work_threads_1, 3000, CLOCK_PROCESS_CPUTIME_ID},
		   {"threads-2", work_threads_2, 3000, CLOCK_PROCESS_CPUTIME_ID},
		   {"threads-4", work_threads_4, 1500, CLOCK_PROCESS_CPUTIME_ID},
		   {"threads-8", work_threads_8, 800, CLOCK_PROCESS_CPUTIME_ID}};
	double round[ROUNDS];
	double factor = argc > 2 ? atof(argv[2]) : 1;
	shuffle();
	for (size_t w = 0; argc > 1 && w < sizeof all / sizeof *all; w++) {
		if (strcmp(argv[1], all[w].name))
			continue;
		size_t scale = (size_t)((double)all[w].scale * factor) + 1;
		for (int r = -1; r < ROUNDS; r++) { /* one to warm up */
			double begin = now_ns(all[w].clock);
			size_t operations = all[w].run(scale);
			if (r >= 0)
				round[r] = (now_ns(all[w].clock) - begin) / (double)operations;
		}
		qsort(round, ROUNDS, sizeof *round, ascending);
		printf("%.3f\n", round[ROUNDS / 2]);
		return 0;
	}
	fprintf(stderr,
		"usage: workloads frame|mixed|particles|pair|batch|realloc|async|marked|boundary|threads-N [SCALE]\n");
	return 2;
}
