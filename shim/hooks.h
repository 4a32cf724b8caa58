/* Declarations that the hook files share: what is exported, and the functions libc does not declare. */
#ifndef FA_SHIM_HOOKS_H
#define FA_SHIM_HOOKS_H

#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

void free_sized(void *pointer, size_t size);
void free_aligned_sized(void *pointer, size_t align, size_t size);

#endif
