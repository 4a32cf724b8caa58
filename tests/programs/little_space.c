/* Run with an address space of 400 MiB: it may have what it could have without the shim, and others' mappings stay whole. */
#include "common.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define CHUNK ((size_t)64 << 10)

/* Three quarters of it in one block, time and again; what is given back is there for others. */
static void most_of_it(void)
{
	for (int i = 0; i < 20; i++) {
		char *block = malloc(300 * MIB + (size_t)i * 5000), *second = malloc(100 * MIB);
		CHECK(block && !second);
		for (size_t at = 0; block && at < 300 * MIB; at += MIB)
			block[at] = 1;
		free(block);
		char *others = mmap(NULL, 300 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(others != MAP_FAILED && munmap(others, 300 * MIB) == 0);
	}
	char *grown = NULL;
	for (size_t mib = 1; mib <= 300; mib++) {
		char *larger = realloc(grown, mib * MIB);
		CHECK(larger);
		if (!larger)
			break;
		grown = larger;
		grown[mib * MIB - 1] = (char)mib;
	}
	for (size_t mib = 1; mib <= 300; mib++)
		CHECK(grown[mib * MIB - 1] == (char)mib);
	free(grown);
}

/* Small blocks that are gone make room for a large one, and come again when that is gone. */
static void small_then_large(void)
{
	enum { COUNT = 150000 };
	static char *small[COUNT];
	for (int round = 0; round < 2; round++) {
		frame_mark();
		for (int i = 0; i < COUNT; i++) {
			small[i] = malloc(1500);
			CHECK(small[i]);
			small[i][0] = (char)i;
		}
		for (int i = 0; i < COUNT; i++) {
			CHECK(small[i][0] == (char)i);
			free(small[i]);
		}
		frame_mark();
		frame_mark();
		char *large = malloc(250 * MIB);
		CHECK(large);
		free(large);
	}
}

/* A limit that is lower for a while. */
static void lifted(void)
{
	struct rlimit limit, low = {150 * MIB, 0};
	CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
	low.rlim_max = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_AS, &low) == 0);
	char *refused = malloc(200 * MIB), *small = malloc(50 * MIB);
	CHECK(!refused && small);
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	char *large = malloc(200 * MIB);
	CHECK(large);
	free(large);
	free(small);
}

/* Pages of the program's own where the shim will want to go: in every third chunk behind what it has now. */
enum { PAGES = 300 };
static char *page[2 * PAGES];

static void settle_behind(const char *block, int first)
{
	char *chunk = (char *)((uintptr_t)block & -CHUNK);
	for (int i = 0, made = 0; made < PAGES && i < 100 * PAGES; i++) {
		char *wish = chunk + (size_t)(3 * i + 1) * CHUNK;
		char *got = mmap(wish, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
				 -1, 0);
		if (got == MAP_FAILED)
			continue;
		CHECK(got == wish);
		memset(got, 0x5a, 4096);
		page[first + made++] = got;
	}
}

static void neighbours(void)
{
	static char *many[40000];
	char *large = malloc(2 * MIB), *small = malloc(64);
	CHECK(large && small);
	settle_behind(large, 0);
	settle_behind(small, PAGES);
	errno = 0;
	for (int round = 0; round < 5; round++) {
		frame_mark();
		for (size_t i = 0; i < 40000; i++) {
			size_t size = i % 400 == 7 ? 300000 : i % 4000 == 9 ? 3 * MIB : 500 + i % 3000;
			many[i] = malloc(size);
			CHECK(many[i]);
			if (!many[i])
				return;
			memset(many[i], (int)i, 16);
			many[i][size - 1] = (char)i;
		}
		for (size_t i = 0; i < 40000; i++) {
			CHECK(many[i][0] == (char)i && many[i][15] == (char)i);
			free(many[i]);
		}
	}
	CHECK(errno == 0);
	for (int i = 0; i < 2 * PAGES; i++)
		for (int at = 0; page[i] && at < 4096; at += 64)
			CHECK(page[i][at] == 0x5a);
	CHECK(page[0] && page[2 * PAGES - 1]);
}

int main(int count, char **argument)
{
	most_of_it();
	if (count > 1 && !strcmp(argument[1], "small"))
		small_then_large();
	lifted();
	neighbours();
	return failures;
}
