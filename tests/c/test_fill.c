/* sources: core/base.c; libs: -pthread */
/* Memory that is asked for ahead: what the kernel says is resident. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base.h"

#define PAGES 64

/* How many pages from the first on are there; no other may be. */
static size_t resident(uint8_t *memory)
{
	unsigned char there[PAGES];
	size_t count = 0, first = 0;
	assert(!mincore(memory, PAGES * PAGE_BYTES, there));
	for (size_t i = 0; i < PAGES; i++)
		count += there[i] & 1;
	while (first < PAGES && there[first] & 1)
		first++;
	assert(first == count);
	return count;
}

static uint8_t *map(void)
{
	uint8_t *memory = base_map(PAGES * PAGE_BYTES);
	assert(memory && !resident(memory));
	return memory;
}

static void test_whole_pages(void)
{
	uint8_t *memory = map();
	errno = 77;
	base_fill(memory + 100, 2 * PAGE_BYTES);
	assert(resident(memory) == 3 && errno == 77);
	base_fill((void *)(uintptr_t)PAGE_BYTES, PAGE_BYTES); /* nothing is mapped there: that is no reason to stop */
	base_fill(memory, 5 * PAGE_BYTES);
	assert(resident(memory) == 5 && errno == 77);
}

/* Who uses little has little; who uses more, at most twice as much and 64 KiB; beyond the end there is nothing. */
static void test_ahead(size_t most)
{
	uint8_t *memory = map();
	size_t filled = 0, calls = 0;
	for (size_t used = 64; used + 512 <= most; used += 512) {
		size_t before = filled;
		filled = base_fill_ahead(memory, used, filled, most);
		calls += filled != before;
		memory[used] = 1;
		size_t touched = round_up(used + 1, PAGE_BYTES) / PAGE_BYTES, there = resident(memory);
		assert(there >= touched && there <= most / PAGE_BYTES);
		assert(there <= 2 * touched && there <= touched + 16 && (touched > 1 || there == 1));
	}
	assert(resident(memory) == most / PAGE_BYTES);
	assert(calls && calls <= 3 + most / (16 * PAGE_BYTES));
}

static void test_a_sandbox_is_not_asked(void)
{
	uint8_t *memory = map();
	base_spare_calls();
	base_fill(memory, PAGE_BYTES);
	assert(!resident(memory));
}

int main(void)
{
	if (syscall(SYS_madvise, NULL, 0, 23 /* MADV_POPULATE_WRITE */)) {
		puts("this kernel fills page by page (older than 5.14): only that nothing else changes is tested");
		uint8_t *memory = map();
		base_fill(memory, PAGE_BYTES);
		assert(!resident(memory));
		return 0;
	}
	test_whole_pages();
	test_ahead(16 * PAGE_BYTES);
	test_ahead(PAGES * PAGE_BYTES);
	test_a_sandbox_is_not_asked();
	puts("ok");
	return 0;
}
