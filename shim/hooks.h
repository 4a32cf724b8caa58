/* Declarations that the hook files share: what is exported, and the functions libc does not declare. */
#ifndef FA_SHIM_HOOKS_H
#define FA_SHIM_HOOKS_H

#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(function, other_name)                                                                                    \
	extern __typeof__(function) other_name __attribute__((alias(#function), visibility("default"), copy(function)))

/* malloc, realloc and free (not of NULL) where no fast path serves them; jumped to, so that their caller is the program. */
void *hook_malloc(size_t size);
void *hook_realloc(void *pointer, size_t size);
void hook_free(void *pointer);

/* The functions that these files' hooks lead to are looked for before the program runs: in the child of a fork ld.so's lock may
   be somebody's who is not there. */
void calls_find(void);
void jumps_find(void);
void rights_find(void);
void threads_find(void);

void *own_malloc(size_t size); /* ours, whoever's the name stands for */

void free_sized(void *pointer, size_t size);
void free_aligned_sized(void *pointer, size_t align, size_t size);

#endif
