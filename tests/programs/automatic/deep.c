/* A plugin that is opened with RTLD_DEEPBIND and exchanges blocks with its loader. */
#include <stdlib.h>
#include <string.h>

void (*volatile deep_free)(void *) = free;

__attribute__((noinline, noipa)) char *deep_make(const char *text)
{
	char *made = malloc(strlen(text) + 1);
	return strcpy(made, text);
}

char *deep_grow(char *given, size_t size)
{
	return realloc(given, size);
}

void deep_take(char *given)
{
	free(given);
}

void deep_take_by_pointer(char *given)
{
	deep_free(given);
}

__attribute__((constructor)) static void init(void)
{
	deep_take(strdup("from libc"));
}
