/* A function whose frame is as large as it is told, found by its frame pointer, allocates from addresses that lie 512 KiB apart, or
   a power of two more. What lies in the frame looks like the rest of another path. */
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>

#define KIB 1024u

static void *volatile kept;

static __attribute__((noinline)) void from(size_t bytes)
{
	char *volatile frame = alloca(bytes);
	frame[0] = 1;
	kept = malloc(10);
	free(kept);
	frame[1] = 1;
}

int main(void)
{
	for (int round = 0; round < 40; round++)
		for (size_t bytes = 512 * KIB; bytes <= 4096 * KIB; bytes *= 2)
			from(round % 2 ? bytes : 4608 * KIB - bytes);
	puts("still here");
	return 0;
}
