/* Blocks of a slab are freed, the slab leaves, and its chunk becomes one of another size, whose blocks lie across the headers of
   the old ones: on the word that tells of their birth, which the program writes, not on the one that tells whether they live.
   The old ones are freed a second time. Prints how many that were. */
#include "common.h"

#define SMALL 6000
#define LARGER 3000

SITE static void *make(size_t size)
{
	return malloc(size);
}

static int ascending(const void *left, const void *right)
{
	uintptr_t a = *(const uintptr_t *)left, b = *(const uintptr_t *)right;
	return a < b ? -1 : a > b;
}

int main(void)
{
	static uintptr_t small[SMALL];
	static char *larger[LARGER];
	unsigned twice = 0;
	for (size_t i = 0; i < SMALL; i++)
		small[i] = (uintptr_t)make(16);
	for (size_t i = 0; i < SMALL; i++)
		free((void *)small[i]);
	qsort(small, SMALL, sizeof *small, ascending);
	for (size_t i = 0; i < LARGER; i++) {
		larger[i] = make(24); /* of 32 usable bytes the last 8 stay what they were */
		memset(larger[i], 0, 24);
	}
	for (size_t i = 0; i < LARGER; i++) {
		uintptr_t inside = (uintptr_t)larger[i] + 32; /* whose header lies in the last 16 */
		if (bsearch(&inside, small, SMALL, sizeof *small, ascending)) {
			free((void *)inside);
			twice++;
		}
	}
	for (size_t i = 0; i < LARGER; i++) {
		for (size_t at = 0; at < 24; at++)
			CHECK(larger[i][at] == 0);
		free(larger[i]);
	}
	printf("%u\n", twice);
	return failures != 0;
}
