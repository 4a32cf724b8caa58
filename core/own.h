/*
 * Blocks that somebody else than the program frees: a task or a guard of the API at its end, a frame at its end what
 * fa_frame_alloc made in it. Whatever is owned can also be freed by hand before.
 */
#ifndef FA_OWN_H
#define FA_OWN_H

#include "core/attach.h"
#include "core/block.h"
#include "core/thread.h"

/* The owner will free the block. False: no memory to note it. Any thread. */
bool own_add(struct attach_owner *owner, void *pointer);

/* The owner will not. False: it does not own the block. */
bool own_hand_out(struct attach_owner *owner, void *pointer);

/* Frees all that the owner has. The thread's gate is closed (THREAD_BUSY). */
void own_end(struct thread *thread, struct attach_owner *owner, const uintptr_t *fp);

/* The same for the open frame; its blocks carry BLOCK_ASKED and BLOCK_SPECIAL, nothing is attached to them. */
bool own_add_to_frame(struct thread *thread, void *pointer);
void own_end_frame(struct thread *thread, const uintptr_t *fp);

/* An owned block is freed by hand; the owner has forgotten it already. A guard's: FA705. */
void own_freed_by_hand(struct thread *thread, const struct block *block, const struct attach_owner *owner,
                       const uintptr_t *fp);

/* FA705 on the calling thread: `block` may be NULL. */
void own_misused(struct thread *thread, const struct block *block, const uintptr_t *fp);

#endif
