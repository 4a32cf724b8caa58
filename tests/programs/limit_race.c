/* The address space is limited while threads take and give large blocks: none of what is reserved stays behind. */
#include "common.h"

#include <stdatomic.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)

static atomic_bool done;

static void *take_and_give(void *unused)
{
	while (!done) {
		char *block = realloc(malloc(2 * MIB), 40 * MIB);
		CHECK(block);
		if (block)
			block[40 * MIB - 1] = 1;
		free(block);
	}
	return unused;
}

static size_t mapped_mib(void)
{
	size_t pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	CHECK(file && fscanf(file, "%zu", &pages) == 1);
	fclose(file);
	return pages / 256;
}

int main(void)
{
	struct rlimit limit = {3000 * MIB, RLIM_INFINITY};
	pthread_t thread[3];
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, take_and_give, NULL) == 0);
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	done = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	printf("%zu\n", mapped_mib());
	return failures;
}
