/* MADE: the function that allocates. */
#include "common.h"

SITE void *MADE(void)
{
	void *block = malloc(40);
	__asm__ volatile("" : "+r"(block));
	return block;
}

void *make(void);
SITE void *make(void)
{
	void *block = MADE();
	__asm__ volatile("" : "+r"(block));
	return block;
}
