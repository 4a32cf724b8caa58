/* A program that locks its memory, all that it has and will have: as a user without privileges, within a limit, where the system
   gives 400 MiB for that. Prints how many KiB it had resident at most, and whether there was a limit; -1: it may not. */
#include "common.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define NOBODY 65534

#define THREADS 20

static pthread_barrier_t all_there;

/* A dozen size classes, a slab each, which are filled as well. */
static void *work(void *unused)
{
	char *block[100];
	pthread_barrier_wait(&all_there);
	for (int i = 0; i < 100; i++)
		CHECK((block[i] = malloc((size_t)i * 2 + 1)));
	for (int i = 0; i < 100; i++)
		free(block[i]);
	return unused;
}

int main(void)
{
	struct rlimit limit = {400 * MIB, 400 * MIB};
	pthread_t thread[THREADS];
	pthread_attr_t small_stack;
	bool limited = setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
	if (limited && !geteuid())
		CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	bool locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
	CHECK(locked || !limited);
	if (!locked) {
		puts("-1 0");
		return failures != 0;
	}
	pthread_barrier_init(&all_there, NULL, THREADS);
	pthread_attr_init(&small_stack);
	pthread_attr_setstacksize(&small_stack, 128 << 10);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < THREADS; i++)
			CHECK(pthread_create(&thread[i], &small_stack, work, NULL) == 0);
		for (int i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		frame_mark();
		char *large = malloc(250 * MIB), *small = malloc(100);
		CHECK(large && small);
		free(large);
		free(small);
	}
	CHECK(!limited || !malloc(500 * MIB));
	printf("%ld %d\n", highest_resident_kib(), limited);
	return failures != 0;
}
