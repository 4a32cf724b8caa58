/* Call paths by number: each bit is a turn to one of two functions, so that 2^depth allocations have a path of their own. */
#ifndef TEST_PATHS_H
#define TEST_PATHS_H

#include "common.h"

SITE void *left(unsigned path, int depth);

SITE void *right(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(48);
	__asm__ volatile("" : "+r"(p));
	return p;
}

SITE void *left(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(80);
	__asm__ volatile("" : "+r"(p));
	return p;
}

#endif
