/* Allocates and frees at random, checks what its blocks hold, and frees now and then what was freed before, whatever lies there
   by now: nothing, a part of a block, another block's header. Prints how often. Arguments: seed, operations, blocks at most,
   further threads. */
#include "common.h"

#include <sched.h>

#define BLOCKS_MAX 4096
#define FREED 65536

static uint64_t state = 88172645463325252u;
static struct {
	unsigned char *bytes, pattern;
	size_t size;
} blocks[BLOCKS_MAX];
static void *freed[FREED]; /* the last of them */
static size_t freed_count;
static long again;

static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void check(size_t n)
{
	for (size_t i = 0; i < blocks[n].size; i++)
		if (blocks[n].bytes[i] != blocks[n].pattern)
			abort();
}

static void fill(size_t n, unsigned char *bytes, size_t size)
{
	blocks[n].bytes = bytes;
	blocks[n].size = size;
	blocks[n].pattern = (unsigned char)(any(3) ? any(256) : 0);
	memset(bytes, blocks[n].pattern, size);
}

static void note_freed(void *block)
{
	freed[freed_count++ % FREED] = block;
}

static void drop(size_t n)
{
	check(n);
	free(blocks[n].bytes);
	note_freed(blocks[n].bytes);
	blocks[n].bytes = NULL;
}

static void resize(size_t n)
{
	size_t size = 1 + any(700);
	unsigned char *old = blocks[n].bytes, *bytes = realloc(old, size);
	if (bytes != old)
		note_freed(old);
	if (size < blocks[n].size)
		blocks[n].size = size;
	blocks[n].bytes = bytes;
	check(n);
	fill(n, bytes, size);
}

/* A block that begins where that one began would be freed rightly. */
static bool free_again(void *block, size_t count)
{
	for (size_t n = 0; n < count; n++)
		if (blocks[n].bytes == block)
			return false;
	free(block);
	return true;
}

/* One of `count` blocks comes, goes or is resized; now and then all go, or what has gone goes again. */
static void operate(long i, size_t count)
{
	size_t n = any(count);
	if (i % 2048 == 0)
		for (size_t other = 0; other < count; other++)
			if (blocks[other].bytes)
				drop(other);
	if (!blocks[n].bytes) {
		size_t size = 1 + any(any(16) ? 200 : any(16) ? 8000 : 100000);
		fill(n, malloc(size), size);
	} else if (any(8)) {
		drop(n);
	} else {
		resize(n);
	}
	if (i % 13 == 0 && freed_count)
		again += free_again(freed[any(freed_count < FREED ? freed_count : FREED)], count);
}

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static long operations;
static size_t block_count;

/* Threads take turns, so that one frees again what is another's. */
static void *work(void *frames)
{
	for (bool more = true; more;) {
		pthread_mutex_lock(&turn);
		long i = --operations;
		more = i >= 0;
		if (more && frames && i % 512 == 0)
			frame_mark();
		if (more)
			operate(i, block_count);
		pthread_mutex_unlock(&turn);
		if (i % 7 == 0)
			sched_yield();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[8];
	CHECK(argc == 5);
	state ^= strtoull(argv[1], NULL, 0) * 0x9e3779b97f4a7c15u;
	operations = atol(argv[2]);
	block_count = (size_t)atol(argv[3]);
	int others = atoi(argv[4]);
	CHECK(block_count <= BLOCKS_MAX && others <= 8);
	for (int i = 0; i < others; i++)
		CHECK(!pthread_create(&threads[i], NULL, work, NULL));
	work(threads);
	for (int i = 0; i < others; i++)
		pthread_join(threads[i], NULL);
	for (size_t n = 0; n < block_count; n++)
		if (blocks[n].bytes)
			drop(n);
	printf("%ld\n", again);
	return failures != 0;
}
