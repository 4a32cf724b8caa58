/* jemalloc's sized and flagged functions over our tiers. Of the flags, alignment and zeroing have a meaning here; arena
   and thread cache choices belong to an allocator that is not in charge. Statistics are those of the heap tier. */
#include "shim/jemalloc_api.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/alloc.h"
#include "core/block.h"
#include "core/tier/heap.h"
#include "core/tier/jemalloc.h"
#include "shim/hooks.h"

#define FP ((const uintptr_t *)__builtin_frame_address(0))
#define FLAG_ALIGN_BITS 0x3f
#define FLAG_ZERO 0x40

void fa_je_malloc_stats_print(void (*write)(void *context, const char *text), void *context, const char *options);

static size_t align_of(int flags)
{
	return (size_t)1 << (flags & FLAG_ALIGN_BITS);
}

EXPORT void *fa_mallocx(size_t size, int flags)
{
	return alloc_new(size, align_of(flags), flags & FLAG_ZERO, FP);
}

EXPORT void *fa_rallocx(void *pointer, size_t size, int flags)
{
	size_t old = alloc_usable(pointer), align = align_of(flags);
	void *moved;
	if (align <= BLOCK_HEADER_BYTES) {
		moved = alloc_resize(pointer, size, FP);
	} else {
		moved = alloc_new(size, align, false, FP);
		if (moved) {
			memcpy(moved, pointer, old < size ? old : size);
			alloc_free(pointer, FP);
		}
	}
	if (moved && flags & FLAG_ZERO && size > old)
		memset((char *)moved + old, 0, size - old);
	return moved;
}

/* Resizing without moving: what a block can hold is fixed here, so it reports that. */
EXPORT size_t fa_xallocx(void *pointer, size_t size, size_t extra, int flags)
{
	(void)size, (void)extra, (void)flags;
	return alloc_usable(pointer);
}

EXPORT size_t fa_sallocx(const void *pointer, int flags)
{
	(void)flags;
	return alloc_usable((void *)(uintptr_t)pointer);
}

EXPORT void fa_dallocx(void *pointer, int flags)
{
	(void)flags;
	alloc_free(pointer, FP);
}

EXPORT void fa_sdallocx(void *pointer, size_t size, int flags)
{
	(void)size, (void)flags;
	alloc_free(pointer, FP);
}

EXPORT size_t fa_nallocx(size_t size, int flags)
{
	(void)flags;
	return block_usable(size);
}

EXPORT int fa_mallctl(const char *name, void *old, size_t *old_bytes, void *value, size_t value_bytes)
{
	if (!heap_set_up())
		return EAGAIN;
	return fa_je_mallctl(name, old, old_bytes, value, value_bytes);
}

EXPORT int fa_mallctlnametomib(const char *name, size_t *mib, size_t *mib_length)
{
	if (!heap_set_up())
		return EAGAIN;
	return fa_je_mallctlnametomib(name, mib, mib_length);
}

EXPORT int fa_mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_bytes, void *value,
			   size_t value_bytes)
{
	if (!heap_set_up())
		return EAGAIN;
	return fa_je_mallctlbymib(mib, mib_length, old, old_bytes, value, value_bytes);
}

EXPORT void fa_malloc_stats_print(void (*write)(void *context, const char *text), void *context, const char *options)
{
	if (heap_set_up())
		fa_je_malloc_stats_print(write, context, options);
}
