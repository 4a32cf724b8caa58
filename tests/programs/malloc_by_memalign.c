/* An allocator for LD_PRELOAD whose malloc is its memalign, by its public name, as Electric Fence's is. */
#include <stddef.h>
#include <string.h>

static char room[1 << 22] __attribute__((aligned(16)));
static size_t used;

void *memalign(size_t align, size_t size)
{
	size_t at = (used + 16 + align - 1) / align * align;
	if (at + size > sizeof room)
		return NULL;
	memcpy(room + at - sizeof size, &size, sizeof size);
	used = (at + size + 15) / 16 * 16;
	return room + at;
}

void *malloc(size_t size)
{
	return memalign(4, size);
}

void *calloc(size_t count, size_t size)
{
	return memalign(16, count * size);
}

void *realloc(void *pointer, size_t size)
{
	size_t before = 0;
	void *moved = memalign(16, size);
	if (pointer)
		memcpy(&before, (char *)pointer - sizeof before, sizeof before);
	if (moved && before)
		memcpy(moved, pointer, before < size ? before : size);
	return moved;
}

void free(void *pointer)
{
	(void)pointer;
}
