/* jemalloc's public functions as libframealloc.so serves them. Signatures and flags are jemalloc's (jemalloc(3)). */
#ifndef FA_SHIM_JEMALLOC_API_H
#define FA_SHIM_JEMALLOC_API_H

#include <stddef.h>

void *fa_mallocx(size_t size, int flags);
void *fa_rallocx(void *pointer, size_t size, int flags);
size_t fa_xallocx(void *pointer, size_t size, size_t extra, int flags);
size_t fa_sallocx(const void *pointer, int flags);
void fa_dallocx(void *pointer, int flags);
void fa_sdallocx(void *pointer, size_t size, int flags);
size_t fa_nallocx(size_t size, int flags);
int fa_mallctl(const char *name, void *old, size_t *old_bytes, void *value, size_t value_bytes);
int fa_mallctlnametomib(const char *name, size_t *mib, size_t *mib_length);
int fa_mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_bytes, void *value,
		    size_t value_bytes);
void fa_malloc_stats_print(void (*write)(void *context, const char *text), void *context, const char *options);

/* The names themselves, as libframealloc-jemalloc.so exports them. */
void *mallocx(size_t size, int flags);
void *rallocx(void *pointer, size_t size, int flags);
size_t xallocx(void *pointer, size_t size, size_t extra, int flags);
size_t sallocx(const void *pointer, int flags);
void dallocx(void *pointer, int flags);
void sdallocx(void *pointer, size_t size, int flags);
size_t nallocx(size_t size, int flags);
int mallctl(const char *name, void *old, size_t *old_bytes, void *value, size_t value_bytes);
int mallctlnametomib(const char *name, size_t *mib, size_t *mib_length);
int mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_bytes, void *value, size_t value_bytes);
void malloc_stats_print(void (*write)(void *context, const char *text), void *context, const char *options);

#endif
