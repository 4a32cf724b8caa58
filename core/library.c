#define _GNU_SOURCE
#include "core/library.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>

#define OURS_MAX 4

static bool load_none;
static uintptr_t ours[OURS_MAX]; /* an address in each */
static size_t ours_count;

void library_load_none(void)
{
	load_none = true;
}

static int note_loads(struct dl_phdr_info *info, size_t bytes, void *count)
{
	(void)bytes;
	*(unsigned long long *)count = info->dlpi_adds;
	return 1;
}

/* Modules that were loaded so far. */
static unsigned long long loads(void)
{
	unsigned long long count = 0;
	dl_iterate_phdr(note_loads, &count);
	return count;
}

void *library_open(const char *soname)
{
	if (load_none)
		return NULL;
	unsigned long long before = loads();
	void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	if (library && loads() != before && ours_count < OURS_MAX)
		ours[ours_count++] = (uintptr_t)((struct link_map *)library)->l_ld;
	return library;
}

bool library_is_ours(uintptr_t start, uintptr_t end)
{
	for (size_t i = 0; i < ours_count; i++)
		if (ours[i] >= start && ours[i] < end)
			return true;
	return false;
}
