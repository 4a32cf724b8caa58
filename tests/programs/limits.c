/* A program that limits its own address space, or with an argument its data, goes on: threads, a deep stack, allocations; and is
   refused beyond. */
#include "common.h"

#include <sys/mman.h>
#include <sys/resource.h>

static void *nothing(void *argument)
{
	return argument;
}

static int deep(int levels)
{
	volatile char room[4096];
	room[0] = (char)levels;
	return levels ? deep(levels - 1) + room[0] : 0;
}

int main(int count, char **argument)
{
	__rlimit_resource_t what = count > 1 && !strcmp(argument[1], "data") ? RLIMIT_DATA : RLIMIT_AS;
	struct rlimit limit = {2000000000, 2000000000};
	if (what == RLIMIT_DATA)
		limit.rlim_cur = limit.rlim_max = 300 << 20;
	pthread_t thread;
	CHECK(setrlimit(what, &limit) == 0);
	CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
	deep(1000);
	char *big = malloc(100 << 20), *refused = malloc(3000000000u);
	CHECK(big && !refused);
	memset(big, 1, 100 << 20);
	frame_mark();
	for (int i = 0; i < 100000; i++)
		free(malloc((size_t)i % 9000));
	free(big);
	if (what == RLIMIT_DATA) { /* what was freed is others' */
		char *others = mmap(NULL, 150 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(others != MAP_FAILED);
	}
	return failures;
}
