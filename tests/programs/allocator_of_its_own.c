/* A main program that exports its own malloc family: the shim must leave it alone. */
#include "common.h"

static char room[1 << 20];
static size_t used;
static int calls;

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
	int ok = !strcmp(text, "mine") && calls >= 2;
	free(text);
	printf("%d\n", ok);
	return !ok;
}
