/* One mapping a block: [start and length, 16 bytes] … [header][block]. */
#include "core/tier/direct.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/region/region.h"

/* Stands right before the block's header. */
struct mapping {
	uintptr_t start;
	size_t bytes;
};

void *direct_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag)
{
	size_t lead = sizeof(struct mapping) + sizeof(struct block);
	if (align < lead)
		align = lead;
	if (align > BLOCK_SIZE_MAX - size)
		return NULL;
	size_t bytes = round_up(lead + block_usable(size) + align, REGION_CHUNK_BYTES);
	char *start = region_heap_map(bytes, PROT_READ | PROT_WRITE);
	if (!start)
		return NULL;
	char *pointer = (char *)round_up((uintptr_t)start + lead, align);
	struct block *block = (struct block *)pointer - 1;
	((struct mapping *)block)[-1] = (struct mapping){(uintptr_t)start, bytes};
	return block_start(block, birth, tag | BLOCK_DIRECT, size);
}

void *direct_take_over(struct block *from, size_t size, uint64_t birth, uint32_t tag)
{
	/* The pages of a large block are its own, from the one that it begins in. */
	struct block header = *from;
	uintptr_t first = (uintptr_t)from & ~(PAGE_BYTES - 1),
		  end = round_up((uintptr_t)(from + 1) + block_usable(block_size(from)), PAGE_BYTES);
	size_t lead = PAGE_BYTES + ((uintptr_t)(from + 1) - first),
	       bytes = round_up(lead + block_usable(size), REGION_CHUNK_BYTES);
	char *start = region_heap_map(bytes, PROT_READ | PROT_WRITE);
	if (!start)
		return NULL;
	if (!region_heap_move_pages((void *)first, end - first, start + PAGE_BYTES, bytes - PAGE_BYTES)) {
		region_heap_unmap(start, bytes);
		return NULL;
	}
	/* What the program has made of these pages is not for the next block's; and qemu's emulation keeps them from system calls. */
	int saved = errno;
	(void)mmap((void *)first, end - first, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	errno = saved;
	*from = header;
	struct block *block = (struct block *)(start + lead) - 1;
	((struct mapping *)block)[-1] = (struct mapping){(uintptr_t)start, bytes};
	return block_start(block, birth, tag | BLOCK_DIRECT, size);
}

void direct_free(struct block *block)
{
	struct mapping mapping = ((struct mapping *)block)[-1];
	region_heap_unmap((void *)mapping.start, mapping.bytes);
}

void *direct_resize(struct block *block, size_t size, uint64_t birth, uint32_t tag)
{
	struct mapping mapping = ((struct mapping *)block)[-1];
	size_t lead = (uintptr_t)(block + 1) - mapping.start,
	       bytes = round_up(lead + block_usable(size), REGION_CHUNK_BYTES);
	uintptr_t start = mapping.start;
	if (!region_heap_resize((void *)start, mapping.bytes, bytes) &&
	    !(start = (uintptr_t)region_heap_move((void *)start, mapping.bytes, bytes)))
		return NULL;
	struct block *moved = (struct block *)(start + lead) - 1;
	((struct mapping *)moved)[-1] = (struct mapping){start, bytes};
	return block_start(moved, birth, tag | BLOCK_DIRECT, size);
}
