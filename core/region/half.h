/*
 * What the two halves of the region have in common: how addresses become memory, how far a half may be used, and what a limit
 * of the address space does to it. Each half has its lock, and knows for itself whether it is still reserved: a limit comes
 * to one after the other.
 */
#ifndef FA_REGION_HALF_H
#define FA_REGION_HALF_H

#include "core/region/region.h"

/* Under the half's lock. */
struct half {
	bool unreserved; /* what nobody uses of it is not mapped */
	size_t max; /* bytes of it that may be used at most */
};

/* One that was reserved: the kernel now puts others where the region was, from its end downwards, and that part is the
   region's no more. */
static inline struct half half_unreserved(void)
{
	return (struct half){true, region.bytes / 4};
}

/* How far a half may be used, of which so much is in use, where a limit leaves it `more`. */
size_t half_end(const struct half *half, size_t used, size_t more);

/* Addresses for somebody's use. */
struct taken {
	uintptr_t start; /* 0: there are none */
	bool unmapped; /* else they are reserved */
};

/* Makes memory of them. -ENOMEM, or -EEXIST: somebody else has a mapping there. Leaves errno alone. */
int half_map(struct taken taken, size_t bytes, int prot);
/* Says whose whole chunks are. */
void half_mark(uintptr_t start, size_t bytes, enum region_owner owner);

/* Each half at the start, and when a limit comes that leaves it `more` bytes than it has in use. */
void heap_half_begin(uintptr_t start, size_t bytes, bool unreserved);
void span_half_begin(uintptr_t start, size_t bytes, uint32_t *links, bool unreserved);
void heap_half_limit(size_t more);
void span_half_limit(size_t more);

/* Memory is wanting: free spans are mapped no longer. False: none was that counts against a limit. */
bool span_half_unmap_free(void);

#endif
