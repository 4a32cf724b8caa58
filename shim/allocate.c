/* The allocation hooks. Each saves what must be saved, calls core and returns: no logic here. Compiled with frame
   pointers: __builtin_frame_address(0) is what core calls `fp`. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/base.h"
#include "core/hot.h"
#include "shim/hooks.h"

#define FP ((const uintptr_t *)__builtin_frame_address(0))

/* What no path is known of, or none is asked for. Not inlined: the known ones need fewer registers. */
static __attribute__((noinline)) void *malloc_otherwise(size_t size, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	void *pointer = hot_malloc(thread, size, HOT_SEES);
	return likely(pointer != NULL) ? pointer : alloc_malloc(size, fp);
}

static always_inline void *malloc_here(size_t size, const uintptr_t *fp)
{
	void *pointer = hot_malloc_by_path(size, fp);
	return likely(pointer != NULL) ? pointer : malloc_otherwise(size, fp);
}

void *hook_malloc(size_t size)
{
	return malloc_here(size, FP);
}

void hook_free(void *pointer)
{
	alloc_free(pointer, FP);
}

EXPORT void *calloc(size_t count, size_t size)
{
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes)))
		return alloc_or_enomem(NULL);
	if (likely(bytes <= POOL_HEAP_MAX)) {
		struct thread *thread = thread_self;
		void *pointer = hot_malloc(thread, bytes, HOT_LEAVES); /* what malloc has tried before it comes here */
		if (!pointer)
			pointer = malloc_here(bytes, FP);
		return likely(pointer != NULL) ? memset(pointer, 0, bytes) : NULL;
	}
	return alloc_or_enomem(alloc_new(bytes, 0, true, FP));
}

/* Of a block, to 1 byte or more. */
static always_inline void *realloc_here(void *pointer, size_t size, const uintptr_t *fp)
{
	void *resized = hot_realloc_by_path(pointer, size, fp);
	return likely(resized != NULL) ? resized : alloc_or_enomem(alloc_resize(pointer, size, fp));
}

void *hook_realloc(void *pointer, size_t size)
{
	if (unlikely(!pointer))
		return malloc_here(size, FP);
	if (unlikely(!size)) {
		alloc_free(pointer, FP);
		return NULL;
	}
	return realloc_here(pointer, size, FP);
}

/* As glibc: an alignment that is no power of two is raised to the next one. */
static size_t next_power_of_two(size_t value)
{
	return value <= 1 ? 1 : (size_t)1 << (64 - __builtin_clzll(value - 1));
}

EXPORT void *memalign(size_t align, size_t size)
{
	if (align > PTRDIFF_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	return alloc_or_enomem(alloc_new(size, next_power_of_two(align), false, FP));
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	if (align > PTRDIFF_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	return alloc_or_enomem(alloc_new(size, next_power_of_two(align), false, FP));
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
	if (align % sizeof(void *) || !align || align & (align - 1))
		return EINVAL;
	int saved = errno;
	void *pointer = alloc_new(size, align, false, FP);
	errno = saved;
	if (!pointer)
		return ENOMEM;
	*out = pointer;
	return 0;
}

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

EXPORT void *valloc(size_t size)
{
	return alloc_or_enomem(alloc_new(size, page_bytes(), false, FP));
}

EXPORT void *pvalloc(size_t size)
{
	size_t page = page_bytes();
	if (size > PTRDIFF_MAX - page)
		return alloc_or_enomem(NULL);
	return alloc_or_enomem(alloc_new(round_up(size ? size : 1, page), page, false, FP));
}

EXPORT size_t malloc_usable_size(void *pointer)
{
	return pointer ? alloc_usable(pointer) : 0;
}

ALIAS(calloc, __libc_calloc);
ALIAS(memalign, __libc_memalign);
ALIAS(valloc, __libc_valloc);
ALIAS(pvalloc, __libc_pvalloc);
ALIAS(posix_memalign, __posix_memalign);
