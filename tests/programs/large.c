/* Large blocks that come and go. Prints what the mode that is named says. */
#include <pthread.h>
#include <sys/resource.h>

#include "common.h"

#define PAGE 4096
#define WARM 40
#define TURNS 60
#define BUFFERS 600

static long page_faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* As a software renderer does: each frame fills buffers of 64 KiB, and frees them all. */
static size_t buffers(void)
{
	static char *block[BUFFERS];
	for (int i = 0; i < BUFFERS; i++)
		memset(block[i] = malloc(65552), i, 65552);
	for (int i = 0; i < BUFFERS; i++)
		free(block[i]);
	return BUFFERS * 65552;
}

/* As an expression of arrays does: each operation has a result of its own. */
static size_t arrays(void)
{
	size_t bytes = 12000000;
	char *sum = NULL;
	for (int i = 0; i < 4; i++) {
		char *product = malloc(bytes), *other = sum;
		memset(product, i, bytes);
		sum = malloc(bytes);
		memcpy(sum, product, bytes);
		free(other);
		free(product);
	}
	free(sum);
	return 8 * bytes;
}

static char *zeroed(size_t bytes)
{
	char *made = calloc(1, bytes);
	for (size_t i = 0; i < bytes; i++)
		if (made[i])
			exit(4);
	memset(made, 1, bytes);
	return made;
}

static size_t zeroes(void)
{
	char *a = zeroed(145936), *b = zeroed(9000000), *c = zeroed(67088);
	free(b);
	free(a);
	free(c);
	return 9213024;
}

/* Page faults of a turn in the long run, and the pages that it writes to. */
static void churn(size_t (*turn)(void))
{
	long before = 0;
	size_t bytes = 0;
	for (int i = 0; i < WARM + TURNS; i++) {
		if (i == WARM)
			before = page_faults();
		bytes = turn();
	}
	printf("%ld %zu\n", (page_faults() - before) / TURNS, bytes / PAGE);
}

/* Vectors that double, one after the other. Prints the most MiB that were resident. */
static void grow(void)
{
	for (int i = 0; i < 8; i++) {
		char *vector = NULL;
		for (size_t size = 1 << 20; size <= 128 << 20; size *= 2) {
			char *larger = malloc(size);
			if (vector)
				memcpy(larger, vector, size / 2);
			memset(larger + size / 2, i, size / 4);
			free(vector);
			vector = larger;
		}
		free(vector);
	}
	printf("%ld\n", highest_resident_kib() / 1024);
}

/* 400 MiB in blocks of `kib`, once. Prints the MiB that are resident with them, and without. */
static void give_back(size_t kib)
{
	size_t count = (400 << 10) / kib;
	char **block = calloc(count, sizeof *block);
	for (size_t i = 0; i < count; i++)
		memset(block[i] = malloc(kib << 10), 1, kib << 10);
	long with = resident_kib() / 1024;
	for (size_t i = 0; i < count; i++)
		free(block[i]);
	printf("%ld %ld\n", with, resident_kib() / 1024);
	free(block);
}

/* 40 blocks of 10 MiB that realloc makes small. Prints the MiB that are resident before, and after. */
static void shrink(void)
{
	enum { COUNT = 40 };
	char *block[COUNT];
	for (int i = 0; i < COUNT; i++)
		memset(block[i] = malloc(10 << 20), 1, 10 << 20);
	long with = resident_kib() / 1024;
	for (int i = 0; i < COUNT; i++)
		block[i] = realloc(block[i], 40000);
	printf("%ld %ld\n", with, resident_kib() / 1024);
	for (int i = 0; i < COUNT; i++)
		free(block[i]);
}

/* 200 MiB of large blocks, and after them as much of small ones. Prints the most MiB that were resident. */
static void turn_small(void)
{
	enum { LARGE = 200, SMALL = 200 << 10 };
	static void *small[SMALL];
	void *large[LARGE];
	for (int i = 0; i < LARGE; i++)
		memset(large[i] = malloc(1 << 20), 1, 1 << 20);
	for (int i = 0; i < LARGE; i++)
		free(large[i]);
	for (int i = 0; i < SMALL; i++)
		memset(small[i] = malloc(1000), 1, 1000);
	for (int i = 0; i < SMALL; i++)
		free(small[i]);
	printf("%ld\n", highest_resident_kib() / 1024);
}

/* Writes to blocks of 1 MiB, `mib` of them, and frees them. */
static void fill(int mib)
{
	char *block[200];
	for (int i = 0; i < mib; i++)
		memset(block[i] = malloc(1 << 20), i, 1 << 20);
	for (int i = 0; i < mib; i++)
		free(block[i]);
}

/* 100 MiB that come and go, then small blocks only, for 10 s at most. Prints the MiB that are resident before these, and in the
   end. */
static void calm_down(void)
{
	for (int i = 0; i < 20; i++)
		fill(100);
	long before = resident_kib() / 1024;
	for (int i = 0; i < 1000 && resident_kib() / 1024 > before / 4; i++) {
		for (int j = 0; j < 500; j++)
			free(malloc((size_t)j + 1));
		usleep(10000);
	}
	printf("%ld %ld\n", before, resident_kib() / 1024);
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Frames that write to 20 MiB of scratch memory each, with pauses, for 4 s. Prints the page faults of the last
   200; or, since pages go back by time, of those of the last 3 s where each takes longer. */
static void scratch(void)
{
	long before = 0;
	double end = 0;
	for (int i = 0; i < WARM || (i < WARM + 200 && seconds() < end); i++) {
		fill(20);
		usleep(14000);
		if (i == WARM - 1) {
			before = page_faults();
			end = seconds() + 3.2;
		}
	}
	printf("%ld\n", page_faults() - before);
}

/* Eight threads that live all the time, each with 80 MiB when it is its turn. Prints the most MiB that were resident. */
enum { TAKERS = 8 };
static pthread_barrier_t turn_over;

static void *take_turns(void *number)
{
	for (int i = 0; i < 3 * TAKERS; i++) {
		if (i % TAKERS == *(int *)number)
			fill(80);
		pthread_barrier_wait(&turn_over);
	}
	return NULL;
}

static void in_turn(void)
{
	pthread_t thread[TAKERS];
	int number[TAKERS];
	pthread_barrier_init(&turn_over, NULL, TAKERS);
	for (int i = 0; i < TAKERS; i++) {
		number[i] = i;
		pthread_create(&thread[i], NULL, take_turns, &number[i]);
	}
	for (int i = 0; i < TAKERS; i++)
		pthread_join(thread[i], NULL);
	printf("%ld\n", highest_resident_kib() / 1024);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "buffers"))
		churn(buffers);
	else if (!strcmp(mode, "arrays"))
		churn(arrays);
	else if (!strcmp(mode, "zeroes"))
		churn(zeroes);
	else if (!strcmp(mode, "grow"))
		grow();
	else if (!strcmp(mode, "give-back") && argc > 2)
		give_back(strtoul(argv[2], NULL, 10));
	else if (!strcmp(mode, "shrink"))
		shrink();
	else if (!strcmp(mode, "turn-small"))
		turn_small();
	else if (!strcmp(mode, "calm-down"))
		calm_down();
	else if (!strcmp(mode, "scratch"))
		scratch();
	else if (!strcmp(mode, "in-turn"))
		in_turn();
	else
		return 2;
	return 0;
}
