/*
 * Blocks that somebody else than the program frees: a task or a guard of the API at its end, a frame at its end what
 * fa_frame_alloc made in it. Whatever is owned can also be freed by hand before.
 */
#ifndef FA_OWN_H
#define FA_OWN_H

#include "core/attach.h"
#include "core/block.h"
#include "core/thread.h"

/* Blocks that the API made, in all threads: frame memory, and the rest. */
struct own_stats {
	_Atomic uint64_t allocs, frees, bytes, freed_bytes; /* requested */
};
extern struct own_stats own_frame_stats, own_other_stats;

/* Frame memory by the program's word, wherever it lies; what the API handed on is none any more. What a new thread was
   given as its argument is HANDED as well, but still its frame's. */
static inline bool own_is_frame_memory(const struct block *block)
{
	uint32_t tag = block_tag(block);
	bool of_frame = tag & BLOCK_SPECIAL && block_account(tag) == TRACE_TIER_FRAME;
	return tag & BLOCK_ASKED && (!(tag & BLOCK_HANDED) || of_frame);
}
void own_count_alloc(const struct block *block);
void own_uncount_alloc(const struct block *block); /* it is to count elsewhere */
void own_count_free(const struct block *block);

/* Frees a live block that the API made; `thread` with its gate closed, or NULL. */
void own_release(struct thread *thread, struct block *block, const uintptr_t *fp);

/* The owner will free the block. False: no memory to note it. Any thread. */
bool own_add(struct attach_owner *owner, void *pointer);

/* The owner will not. False: it does not own the block. */
bool own_hand_out(struct attach_owner *owner, void *pointer);

/* Frees all that the owner has. */
void own_end(struct thread *thread, struct attach_owner *owner, const uintptr_t *fp);

/* The same for the open frame; its blocks carry BLOCK_ASKED and BLOCK_SPECIAL, nothing is attached to them. */
bool own_add_to_frame(struct thread *thread, void *pointer);
/* The same for what takes the place of `old`, wherever that is done: the frame is the one that has `old`. */
bool own_add_to_frame_of(struct thread *thread, const struct block *old, void *pointer);
void own_end_frame(struct thread *thread, const uintptr_t *fp);
/* The slot has another thread, whose record it has already: what the one before left in a frame lives on. */
void own_forget_frame(struct thread *thread);

/* An owned block is freed by hand; the owner has forgotten it already. A guard's: FA705. */
void own_freed_by_hand(struct thread *thread, const struct block *block, const struct attach_owner *owner,
		       const uintptr_t *fp);

/* FA705 on the calling thread: `block` may be NULL. */
void own_misused(struct thread *thread, const struct block *block, const uintptr_t *fp);

/* FA601: frame memory that its frame has released is freed by hand. */
void own_escaped(struct thread *thread, const struct block *block, const uintptr_t *fp);

#endif
