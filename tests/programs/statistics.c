/* The functions that tell about the heap answer sensibly: not as if it were empty, and never with nonsense. */
#include "common.h"

#include <malloc.h>

int main(void)
{
	enum { COUNT = 1000, SIZE = 50000 };
	static void *block[COUNT];
	struct mallinfo2 before = mallinfo2();
	for (int i = 0; i < COUNT; i++)
		block[i] = memset(malloc(SIZE), 1, SIZE);
	struct mallinfo2 full = mallinfo2();
	CHECK(full.uordblks + full.hblkhd >= before.uordblks + before.hblkhd + (size_t)COUNT * SIZE * 9 / 10);
	CHECK(full.uordblks + full.hblkhd < (size_t)COUNT * SIZE * 2);
	CHECK(full.arena + full.hblkhd >= full.uordblks);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	CHECK((unsigned)mallinfo().uordblks + (unsigned)mallinfo().hblkhd >= (unsigned)COUNT * SIZE * 9 / 10);
	for (int i = 0; i < COUNT; i++)
		free(block[i]);
	struct mallinfo2 after = mallinfo2();
	CHECK(after.uordblks + after.hblkhd < full.uordblks + full.hblkhd - (size_t)COUNT * SIZE / 2);
	int trimmed = malloc_trim(0);
	CHECK(trimmed == 0 || trimmed == 1);
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
	CHECK(mallopt(M_ARENA_MAX, 2) == 1);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);
	CHECK(malloc_info(0, stream) == 0);
	fclose(stream);
	CHECK(length > 20 && text[0] == '<' && strstr(text, "<malloc version=") && strstr(text, "</malloc>"));
	free(text);
	errno = 0;
	CHECK(malloc_info(1, stdout) == EINVAL || errno == EINVAL);
	malloc_stats(); /* writes to stderr, as in glibc */
	return failures != 0;
}
