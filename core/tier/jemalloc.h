/* Our hidden copy of jemalloc, by the names that shim/jemalloc.syms gives it (je_: by its own). Who calls it with blocks is
   inside it (heap.c). */
#ifndef FA_TIER_JEMALLOC_H
#define FA_TIER_JEMALLOC_H

#include "core/base.h"

void *fa_je_malloc(size_t size);
void *fa_je_calloc(size_t count, size_t size);
void *fa_je_aligned_alloc(size_t align, size_t size);
void fa_je_free(void *base);
size_t fa_je_nallocx(size_t size, int flags); /* 0: it could not be set up */
void *fa_je_rallocx(void *base, size_t size, int flags);
int fa_je_mallctl(const char *name, void *old, size_t *old_bytes, void *new_value, size_t new_bytes);
int fa_je_mallctlnametomib(const char *name, size_t *mib, size_t *length);
int fa_je_mallctlbymib(const size_t *mib, size_t length, void *old, size_t *old_bytes, void *new_value,
		       size_t new_bytes);
void je_jemalloc_prefork(void);
void je_jemalloc_postfork_parent(void);
void je_jemalloc_postfork_child(void);
bool je_pages_purge_forced(void *address, size_t bytes); /* true: what is read there next need not be zero */

/* Its statistics are as of now. */
static inline void jemalloc_refresh(void)
{
	uint64_t epoch = 1;
	fa_je_mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
}

/* 0 where it has none of that name. */
static inline size_t jemalloc_figure(const char *name)
{
	size_t value = 0, bytes = sizeof value;
	return fa_je_mallctl(name, &value, &bytes, NULL, 0) ? 0 : value;
}

#endif
