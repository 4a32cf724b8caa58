/*
 * Pointers that are not the shim's: a second libc's in its own namespace, and mapped memory that a program's own allocator
 * handed out. Two go to the shim's free and realloc; both must be passed on or dropped, counted and never fatal.
 */
#include "common.h"

#include <dlfcn.h>
#include <malloc.h>

int main(void)
{
	void *other = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
	if (!other)
		return dprintf(2, "%s\n", dlerror()), 3;
	void *(*other_malloc)(size_t) = (void *(*)(size_t))dlsym(other, "malloc");
	void (*other_free)(void *) = (void (*)(void *))dlsym(other, "free");
	frame_mark();
	for (int i = 0; i < 100; i++) {
		char *theirs = other_malloc(100), *ours = malloc(100);
		memset(theirs, 1, 100);
		memset(ours, 2, 100);
		other_free(theirs);
		free(ours);
	}
	/* The next free in line is this namespace's libc: a block from its arena reached us by ld.so's own early malloc. */
	void *real_libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	void *(*libc_malloc)(size_t) = (void *(*)(size_t))dlsym(real_libc, "malloc");
	void *(*libc_memalign)(size_t, size_t) = (void *(*)(size_t, size_t))dlsym(real_libc, "memalign");
	for (int i = 0; i < 50; i++) {
		char *theirs = libc_malloc(100);
		CHECK(malloc_usable_size(theirs) >= 100);
		memset(theirs, 3, 100);
		theirs = realloc(theirs, 1000);
		CHECK(theirs[99] == 3);
		free(theirs);
		free(libc_memalign(64, 1000));
	}
	frame_mark();
	return failures;
}
