/* One call of each allocating function in a function of its own, and how many allocations it must count as. */
#include "common.h"

#include <malloc.h>

SITE void *call_malloc(void)
{
	return malloc(100);
}
SITE void *call_calloc(void)
{
	return calloc(10, 10);
}
SITE void *call_realloc_new(void)
{
	return realloc(NULL, 100);
}
SITE void *call_realloc_grow(void *p)
{
	return realloc(p, 200);
}
SITE void *call_realloc_same(void *p)
{
	return realloc(p, 200);
}
SITE void *call_realloc_free(void *p)
{
	return realloc(p, 0);
}
SITE void *call_reallocarray(void *p)
{
	return reallocarray(p, 30, 10);
}
SITE void *call_memalign(void)
{
	return memalign(64, 100);
}
SITE void *call_aligned_alloc(void)
{
	return aligned_alloc(64, 100);
}
SITE void *call_posix_memalign(void)
{
	void *p;
	return posix_memalign(&p, 64, 100) ? NULL : p;
}
SITE void *call_valloc(void)
{
	return valloc(100);
}
SITE void *call_pvalloc(void)
{
	return pvalloc(100);
}
SITE void *call_zero(void)
{
	return malloc(0);
}
SITE void *call_failing(void *p)
{
	return realloc(p, SIZE_MAX);
}
SITE void *call_too_large(void)
{
	return malloc(SIZE_MAX / 2);
}
SITE char *call_strdup(void)
{
	return strdup("a string that libc copies");
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		frame_mark();
	void *p = call_realloc_grow(call_malloc());
	p = call_reallocarray(call_realloc_same(p));
	CHECK(!call_failing(p) && !call_too_large());
	CHECK(!call_realloc_free(p));
	void *kept[] = {call_calloc(), call_realloc_new(), call_memalign(), call_aligned_alloc(), call_posix_memalign(),
			call_valloc(), call_pvalloc(),     call_zero(),     call_strdup()};
	if (argc > 1)
		frame_mark();
	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
		free(kept[i]);
	return failures;
}
