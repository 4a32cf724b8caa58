/* Looked up once, without dlsym: it may allocate, and this runs inside the first allocation. */
#include "core/next.h"

#include <stdint.h>

#include "core/mark/mark.h"

static void *refuse_malloc(size_t size)
{
	(void)size;
	return NULL;
}

static void refuse_free(void *pointer)
{
	(void)pointer;
}

static void *refuse_two(size_t a, size_t b)
{
	(void)a, (void)b;
	return NULL;
}

static void *refuse_realloc(void *pointer, size_t size)
{
	(void)pointer, (void)size;
	return NULL;
}

static size_t refuse_usable(void *pointer)
{
	(void)pointer;
	return 0;
}

struct next_functions next = {refuse_malloc, refuse_free, refuse_two, refuse_realloc, refuse_two, refuse_usable, false};

void next_init(void)
{
	uintptr_t here = (uintptr_t)&next;
	uintptr_t found;
	if ((found = finder_next("malloc", here)))
		next.malloc = (__typeof__(next.malloc))found;
	if ((found = finder_next("free", here)))
		next.free = (__typeof__(next.free))found;
	if ((found = finder_next("calloc", here)))
		next.calloc = (__typeof__(next.calloc))found;
	if ((found = finder_next("realloc", here)))
		next.realloc = (__typeof__(next.realloc))found;
	if ((found = finder_next("memalign", here)))
		next.memalign = (__typeof__(next.memalign))found;
	next.memalign_is_another = found != finder_next("__libc_memalign", here);
	if ((found = finder_next("malloc_usable_size", here)))
		next.malloc_usable_size = (__typeof__(next.malloc_usable_size))found;
}
