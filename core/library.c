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

void *library_open(const char *soname)
{
	void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
	if (library || load_none)
		return library;
	library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	if (library && ours_count < OURS_MAX)
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
