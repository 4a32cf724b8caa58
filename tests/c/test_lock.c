/* sources: core/base.c core/region/place.c core/region/span_half.c; libs: -pthread */
/* What a signal handler inside an operation may wait for: nothing. Neither a lock that another thread holds, nor addresses. */
#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/region/heap_half.c" /* whose locks are its own */

static struct base_lock lock, other;
static _Atomic int stage; /* 1: the thread has the lock, 2: it may give it back */

static void *hold(void *unused)
{
	assert(base_lock(&lock) && base_holds_locks());
	stage = 1;
	while (stage != 2)
		;
	base_unlock(&lock);
	assert(!base_holds_locks());
	return unused;
}

static void test_who_hurries_does_not_wait(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, hold, NULL);
	while (stage != 1)
		;
	base_hurry_begin();
	base_hurry_begin();
	assert(!base_lock(&lock) && !base_holds_locks()); /* comes back at all */
	base_hurry_end();
	assert(base_hurries() && !base_lock(&lock));
	assert(base_lock(&other) && base_holds_locks());
	base_unlock(&other);
	base_hurry_end();
	assert(!base_hurries());
	stage = 2;
	assert(base_lock(&lock)); /* waits */
	pthread_join(thread, NULL);
	assert(!base_lock(&lock)); /* taken by this thread */
	base_unlock_all();
	assert(!base_holds_locks() && base_lock(&lock));
	base_unlock(&lock);
}

static void *hold_heap(void *unused)
{
	assert(base_lock(&heap_half.lock));
	stage = 1;
	while (stage != 2)
		;
	base_unlock(&heap_half.lock);
	return unused;
}

/* As many blocks as there are, from the reserve. */
#define TAKEN 100
static void take_from_reserve(char **range)
{
	pthread_t thread;
	stage = 0;
	pthread_create(&thread, NULL, hold_heap, NULL);
	while (stage != 1)
		;
	base_hurry_begin();
	for (int i = 0; i < TAKEN; i++) {
		range[i] = region_heap_map(2 * REGION_CHUNK_BYTES, PROT_READ | PROT_WRITE);
		assert(range[i] && region_owner_of(range[i] + 2 * REGION_CHUNK_BYTES - 1) == REGION_HEAP);
		range[i][2 * REGION_CHUNK_BYTES - 1] = 1;
	}
	assert(!region_heap_map(RESERVE_CHUNKS * REGION_CHUNK_BYTES,
				PROT_READ | PROT_WRITE)); /* so much is not left there */
	base_hurry_end();
	stage = 2;
	pthread_join(thread, NULL);
}

static void test_who_hurries_finds_addresses(void)
{
	static char *range[4 * TAKEN];
	assert(!region_init());
	for (int round = 0; round < 4; round++) {
		take_from_reserve(range + round * TAKEN);
		assert(region_heap_map(REGION_CHUNK_BYTES, PROT_READ | PROT_WRITE)); /* fills it up */
	}
	for (int i = 0; i < 4 * TAKEN; i++)
		for (int other = 0; other < i; other++)
			assert(range[other] + 2 * REGION_CHUNK_BYTES <= range[i] ||
			       range[i] + 2 * REGION_CHUNK_BYTES <= range[other]);
	for (int i = 0; i < 4 * TAKEN; i++)
		region_heap_unmap(range[i], 2 * REGION_CHUNK_BYTES);
	char *plain = region_heap_map(RESERVE_CHUNKS * REGION_CHUNK_BYTES, PROT_READ | PROT_WRITE);
	assert(plain && !plain[RESERVE_CHUNKS * REGION_CHUNK_BYTES - 1]);
}

/* A limit is for both halves or for none: a handler that has interrupted one of them comes too early. */
static void test_who_holds_a_lock_limits_nothing(void)
{
	assert(base_lock(&heap_half.lock));
	region_limit(1ul << 30);
	assert(!region_is_limited() && !heap_half.half.unreserved && region.span_end == region.bytes);
	base_unlock(&heap_half.lock);
	region_limit(1ul << 30);
	assert(region_is_limited() && heap_half.half.unreserved && region.span_end < region.bytes);
	bool has_pages = true;
	assert(region_heap_map(REGION_CHUNK_BYTES, PROT_READ | PROT_WRITE));
	assert(region_span_take(REGION_FRAME, &has_pages) && !has_pages);
}

int main(void)
{
	test_who_hurries_does_not_wait();
	test_who_hurries_finds_addresses();
	test_who_holds_a_lock_limits_nothing();
	puts("3");
	return 0;
}
