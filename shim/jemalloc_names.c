/*
 * libframealloc-jemalloc.so: jemalloc's own public names, for targets that link it. Preloaded beside the main library
 * only then (fa-run looks): a weak probe for mallocx would otherwise take any process for a jemalloc one.
 * Each function jumps to its fa_ twin in libframealloc.so, so that the call path begins at the target's call.
 */
#include <stddef.h>

#include "shim/jemalloc_api.h"

#define NAME __attribute__((visibility("default")))

NAME void *mallocx(size_t size, int flags)
{
	return fa_mallocx(size, flags);
}

NAME void *rallocx(void *pointer, size_t size, int flags)
{
	return fa_rallocx(pointer, size, flags);
}

NAME size_t xallocx(void *pointer, size_t size, size_t extra, int flags)
{
	return fa_xallocx(pointer, size, extra, flags);
}

NAME size_t sallocx(const void *pointer, int flags)
{
	return fa_sallocx(pointer, flags);
}

NAME void dallocx(void *pointer, int flags)
{
	fa_dallocx(pointer, flags);
}

NAME void sdallocx(void *pointer, size_t size, int flags)
{
	fa_sdallocx(pointer, size, flags);
}

NAME size_t nallocx(size_t size, int flags)
{
	return fa_nallocx(size, flags);
}

NAME int mallctl(const char *name, void *old, size_t *old_bytes, void *value, size_t value_bytes)
{
	return fa_mallctl(name, old, old_bytes, value, value_bytes);
}

NAME int mallctlnametomib(const char *name, size_t *mib, size_t *mib_length)
{
	return fa_mallctlnametomib(name, mib, mib_length);
}

NAME int mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_bytes, void *value,
		      size_t value_bytes)
{
	return fa_mallctlbymib(mib, mib_length, old, old_bytes, value, value_bytes);
}

NAME void malloc_stats_print(void (*write)(void *context, const char *text), void *context, const char *options)
{
	fa_malloc_stats_print(write, context, options);
}
