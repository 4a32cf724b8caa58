/*
 * A block that grows, of whose pages the program has made something: locked, read-only, or not for its children. What it was is
 * gone with the block: the rest of memory is as it was, and what lies there next is a block like any other.
 */
#include "sandbox.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static char *first_page(char *block)
{
	return (char *)(((uintptr_t)block + 4095) & ~(uintptr_t)4095);
}

static bool holds(const char *block, size_t bytes, char value)
{
	for (size_t i = 0; i < bytes; i += 512)
		if (block[i] != value)
			return false;
	return true;
}

static void locked(void)
{
	char *beside = malloc(700 * KIB);
	CHECK(!mlock(first_page(beside), 64 * KIB));
	long before = status_kib("VmLck:");
	for (int round = 0; round < 10; round++) {
		char *block = malloc(MIB);
		memset(block, round + 1, MIB);
		CHECK(!mlock(first_page(block), MIB - 4096));
		char *grown = realloc(block, 2 * MIB);
		CHECK(grown && holds(grown, MIB, (char)(round + 1)));
		CHECK(!munlock(first_page(grown), 2 * MIB - 4096));
		(void)munlock(first_page(block), MIB - 4096); /* where it was, if anything is there */
		free(grown);
	}
	CHECK(status_kib("VmLck:") == before);
	free(beside);
}

/* From 64 MiB to 200 MiB; the last part of a move may be refused its room. */
static void read_only(bool refused)
{
	if (refused)
		refuse_room();
	char *block = malloc(64 * MIB);
	memset(block, 1, 64 * MIB);
	CHECK(!mprotect(first_page(block) + 20 * MIB, MIB, PROT_READ));
	block = realloc(block, 200 * MIB);
	CHECK(block && holds(block, 64 * MIB, 1));
	memset(block, 2, 200 * MIB);
	free(block);
}

/* Blocks where others lay that the program had made something of. */
static void next_ones(bool forks)
{
	for (int round = 0; round < 8; round++) {
		char *block = malloc(600 * KIB), *page = first_page(block) + 100 * KIB;
		memset(block, 1, 600 * KIB);
		CHECK(!(forks ? madvise(page, 64 * KIB, MADV_DONTFORK) : mprotect(page, 4096, PROT_READ)));
		block = realloc(block, 2 * MIB);
		memset(block, 1, 2 * MIB);
		char *next[6];
		for (int i = 0; i < 6; i++)
			memset(next[i] = malloc(300 * KIB), i + 2, 300 * KIB);
		pid_t child = forks ? fork() : 0;
		if (!child) {
			for (int i = 0; i < 6; i++)
				CHECK(holds(next[i], 300 * KIB, (char)(i + 2)));
			CHECK(holds(block, 2 * MIB, 1));
			if (forks)
				_exit(failures);
		}
		int status = 0;
		CHECK(!forks || (waitpid(child, &status, 0) == child && !status));
		for (int i = 0; i < 6; i++)
			free(next[i]);
		free(block);
	}
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	CHECK(mallopt(M_MMAP_THRESHOLD, 128 << 10)); /* glibc, too, may hand out pages again that others have had */
	if (!strcmp(what, "locked"))
		locked();
	else if (!strcmp(what, "read-only") || !strcmp(what, "refused"))
		read_only(!strcmp(what, "refused"));
	else if (!strcmp(what, "next") || !strcmp(what, "fork"))
		next_ones(!strcmp(what, "fork"));
	else
		return 2;
	return failures;
}
