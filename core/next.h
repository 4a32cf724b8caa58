/* The next allocator in line: who gets pointers that are not ours, and everything when the shim steps aside. */
#ifndef FA_NEXT_H
#define FA_NEXT_H

#include <stdbool.h>
#include <stddef.h>

struct next_functions {
	void *(*malloc)(size_t size);
	void (*free)(void *pointer);
	void *(*calloc)(size_t count, size_t size);
	void *(*realloc)(void *pointer, size_t size);
	void *(*memalign)(size_t align, size_t size);
	size_t (*malloc_usable_size)(void *pointer);
	bool memalign_is_another; /* than libc's: malloc may be made of it */
};
extern struct next_functions next;

/* Finds them in the modules after ours; usable before constructors. Missing ones get harmless stand-ins. */
void next_init(void);

#endif
