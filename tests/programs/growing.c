/* Two vectors that grow by turns to 96 MiB each, shrink and grow again; every word is checked. Prints a checksum, and the peak
   of resident memory against what both hold, in percent: a growth that copies needs old and new at once. */
#include "common.h"

#define WORDS_MAX ((size_t)12 << 20)

static uint64_t *word[2];
static size_t count[2];

static void resize(int which, size_t wanted)
{
	uint64_t *moved = realloc(word[which], wanted * sizeof **word);
	if (!moved)
		exit(3);
	word[which] = moved;
	for (size_t i = count[which]; i < wanted; i++)
		moved[i] = i * 0x9e3779b97f4a7c15u + (unsigned)which;
	count[which] = wanted;
}

static void check(int which)
{
	for (size_t i = 0; i < count[which]; i++)
		if (word[which][i] != i * 0x9e3779b97f4a7c15u + (unsigned)which)
			exit(4);
}

int main(void)
{
	for (size_t wanted = 1000; wanted < WORDS_MAX; wanted += wanted / 8) {
		resize(0, wanted);
		resize(1, wanted / 2 + 1);
	}
	resize(0, WORDS_MAX);
	resize(1, WORDS_MAX);
	check(0), check(1);
	fprintf(stderr, "%zu\n", highest_resident_kib() * 1024 * 100 / (2 * WORDS_MAX * sizeof **word));
	for (int turn = 0; turn < 20; turn++) {
		resize(turn & 1, WORDS_MAX / 64 * (size_t)(turn + 1));
		check(turn & 1);
	}
	resize(0, 100), resize(1, 200000);
	check(0), check(1);
	printf("%zu %zu\n", count[0], count[1]);
	free(word[0]);
	free(word[1]);
	return 0;
}
