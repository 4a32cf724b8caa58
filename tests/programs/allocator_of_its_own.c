/* A main program that exports its own malloc, free, calloc and realloc: the shim must leave it alone, and what libc makes of these
   (reallocarray, C23's free_sized where there is one) must come to it. */
#include "common.h"

#include <dlfcn.h>

static char room[1 << 20];
static size_t used;
static int calls, frees;

void *malloc(size_t size)
{
	calls++;
	used = (used + 31) & ~(size_t)15;
	*(size_t *)(room + used) = size;
	used += 16 + size;
	return used <= sizeof room ? room + used - size : NULL;
}

void free(void *p)
{
	frees++;
	if (p && ((char *)p < room || (char *)p >= room + sizeof room))
		_exit(5);
}

void *calloc(size_t n, size_t size)
{
	return malloc(n * size);
}

void *realloc(void *p, size_t size)
{
	void *fresh = malloc(size);
	if (p)
		memcpy(fresh, p, *(size_t *)((char *)p - 16) < size ? *(size_t *)((char *)p - 16) : size);
	return fresh;
}

/* With an argument: prints how many bytes were asked for before. An allocator may not be ready for many before main. */
int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1) {
		size_t before = used;
		printf("%zu\n", before);
		return 0;
	}
	char *text = strdup("mine");
	text = realloc(text, 100);
	text = reallocarray(text, 50, 4);
	int ok = text > room && text < room + sizeof room && !strcmp(text, "mine") && calls >= 3, before = frees;
	void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
	if (sized)
		sized(malloc(30), 30);
	ok &= frees - before == !!sized;
	free(text);
	printf("%d\n", ok);
	return !ok;
}
