/* Large blocks that grow: what they hold stays, and what was not touched is not. Prints how many KiB were resident at most. With
   "refused" no mapping may get more room in the end; with "child" all that is done in a child. */
#include "sandbox.h"

#include <sys/wait.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static uint64_t word_at(size_t place, size_t seed)
{
	return (place + 1) * 0x9e3779b97f4a7c15u ^ seed;
}

static void fill(void *block, size_t bytes, size_t seed)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)block)[i] = word_at(i, seed);
}

static bool holds(const void *block, size_t bytes, size_t seed)
{
	for (size_t i = 0; i < bytes / 8; i++)
		if (((const uint64_t *)block)[i] != word_at(i, seed))
			return false;
	return true;
}

static bool is_zero(const char *block, size_t bytes)
{
	return !block[0] && !memcmp(block, block + 1, bytes - 1);
}

static void grow(size_t bytes, size_t seed)
{
	void *block = malloc(bytes), *beside = malloc(bytes);
	CHECK(block && beside);
	fill(block, bytes, seed);
	fill(beside, bytes, seed + 1);
	size_t more = bytes * 2 + MIB;
	block = realloc(block, more);
	CHECK(block && holds(block, bytes, seed) && holds(beside, bytes, seed + 1));
	char *zero = calloc(1, bytes); /* where it lay, perhaps */
	CHECK(zero && is_zero(zero, bytes));
	fill(zero, bytes, seed + 2);
	fill(block, more, seed + 3);
	block = realloc(block, more + MIB);
	CHECK(block && holds(block, more, seed + 3) && holds(zero, bytes, seed + 2) && holds(beside, bytes, seed + 1));
	beside = realloc(beside, bytes / 3);
	CHECK(beside && holds(beside, bytes / 3, seed + 1));
	free(zero);
	free(beside);
	free(block);
}

static void grow_untouched(void)
{
	char *block = calloc(1, 512 * MIB);
	CHECK(block != NULL);
	block[256 * MIB] = 1;
	block = realloc(block, 768 * MIB);
	CHECK(block && block[256 * MIB] == 1 && !block[256 * MIB + 1] && !block[0]);
	free(block);
}

/* By turns, so that each has to leave its place after it has grown there: its pages are of several mappings then. */
static void grow_by_turns(bool refused)
{
	static char *block[2];
	static size_t mib[2];
	for (size_t turn = 0; turn < 16; turn++) {
		if (refused && turn == 9)
			refuse_room();
		size_t which = turn / 2 & 1, last = mib[which];
		mib[which] += 40;
		block[which] = realloc(block[which], mib[which] * MIB);
		CHECK(block[which] != NULL);
		block[which][last * MIB] = (char)mib[which]; /* one page of what is new */
		for (size_t place = 0; place < mib[which]; place += 40)
			CHECK(block[which][place * MIB] == (char)(place + 40));
		CHECK(is_zero(block[which] + last * MIB + 1, 64 * KIB));
	}
	free(block[0]);
	free(block[1]);
}

int main(int count, char **arguments)
{
	const char *how = count > 1 ? arguments[1] : "";
	pid_t child = strcmp(how, "child") ? 0 : fork();
	if (child) {
		int status;
		CHECK(waitpid(child, &status, 0) == child && !status);
		return failures;
	}
	static const size_t sizes[] = {100 * KIB, 256 * KIB, 300 * KIB + 1, MIB - 16, MIB, 3 * MIB + 5, 17 * MIB};
	for (size_t round = 0; round < 6; round++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			grow(sizes[i] + round * 8, round * 100 + i);
	grow_untouched();
	grow_by_turns(!strcmp(how, "refused"));
	printf("%ld\n", highest_resident_kib());
	return failures;
}
