/* Named regions at run time: what a frame allocates in each, against its budget. Which blocks belong to a region is told
   by their sites, which are kept apart by region (site.c). */
#ifndef FA_TAG_H
#define FA_TAG_H

#include "core/thread.h"

/* Makes the records of the policy's regions, in their order: tag n is the policy's region n. */
void tag_begin_recording(void);

/* Requested bytes, all allocations of the thread. */
static always_inline uint64_t tag_bytes_so_far(const struct thread *thread)
{
	return trace_thread_sums(thread->record).bytes;
}

void tag_frame_begin(struct thread *thread);
void tag_frame_end(struct thread *thread);

/* The region of this name; a new one when there is none. 0: no room. Any thread. */
uint32_t tag_named(const char *name);

/* The region whose modules hold `path`; 0: none. */
uint32_t tag_of_module(const char *path);

#endif
