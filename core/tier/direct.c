/* One mapping a block: [start and length, 16 bytes] … [header][block]. */
#include "core/tier/direct.h"

#include <sys/mman.h>

#include "core/region.h"

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
	size_t bytes = round_up(block_usable(size) + align, 4096);
	if (bytes < size)
		return NULL;
	char *start = region_heap_map(bytes + (align > 4096 ? align : 0), PROT_READ | PROT_WRITE);
	if (!start)
		return NULL;
	char *pointer = (char *)round_up((uintptr_t)start + lead, align);
	struct block *block = (struct block *)pointer - 1;
	((struct mapping *)block)[-1] = (struct mapping){(uintptr_t)start, bytes + (align > 4096 ? align : 0)};
	return block_start(block, birth, tag | BLOCK_DIRECT, size);
}

void direct_free(struct block *block)
{
	struct mapping mapping = ((struct mapping *)block)[-1];
	region_heap_unmap((void *)mapping.start, mapping.bytes);
}
