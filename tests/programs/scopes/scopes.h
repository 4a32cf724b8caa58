/*
 * What the programs of entry/return scopes share. Marked functions are called m_NAME. Programs print what they computed,
 * which must be the same with and without the shim, and last how much of what a recording must show, by their own count:
 * scopes (outermost calls), blocks born inside one, born inside and freed after it ended, born outside.
 */
#ifndef SCOPES_H
#define SCOPES_H

#include "../common.h"

#ifdef __cplusplus
#define COUNT(counter) __atomic_fetch_add(&(counter), 1, __ATOMIC_RELAXED)
#else
#define COUNT(counter) __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED)
#endif

static long scopes_begun, made_inside, made_escaping, made_outside;
static void *volatile held;

SITE void inside(void)
{
	COUNT(made_inside);
	held = malloc(48);
	free(held);
}

SITE void *escaping(void)
{
	COUNT(made_escaping);
	return malloc(56);
}

SITE void outside(void)
{
	COUNT(made_outside);
	held = malloc(40);
	free(held);
}

static inline int finish(void)
{
	printf("scopes %ld inside %ld escaping %ld outside %ld\n", scopes_begun, made_inside, made_escaping,
	       made_outside);
	fflush(stdout);
	return failures;
}

static inline long number(char **argv, int index, long otherwise)
{
	return argv[1] && argv[index] ? atol(argv[index]) : otherwise;
}

#endif
