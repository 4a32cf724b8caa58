/*
 * The scopes that are open on a thread because a marked function has not returned yet: blocking boundaries, frame
 * scopes, regions. Each has a stack frame of ours, whose end closes it. A frame that was left by longjmp (a hook tells)
 * or by means that nobody tells of (the assembly of a coroutine or of LuaJIT) is found out at the next event.
 */
#ifndef FA_SCOPE_STACK_H
#define FA_SCOPE_STACK_H

#include "core/thread.h"

#define SCOPE_STACK_MAX 1024u

/* What the end of a scope does; `saved` is whatever push was given. */
typedef void (*scope_close_fn)(struct thread *thread, uintptr_t saved);

/* fp[1] is the return address of the marked call; it stands there as long as the scope lasts, and a scope further in has
   a lower fp on the same stack. */
struct scope_entry {
	const uintptr_t *fp;
	uintptr_t return_address;
	scope_close_fn close;
	uintptr_t saved;
	const void *marker; /* whose scope it is */
};

/* Closes what has ended unseen: to be called before anything is asked of the stack. `fp`: frame of the present event. */
void scope_stack_prune_open(struct thread *thread, const uintptr_t *fp);

/* Whether a scope certainly lasts: it lies further out on the present stack, which `fp` is on too. */
static always_inline bool scope_stands(const struct thread *thread, const struct scope_entry *entry,
				       const uintptr_t *fp)
{
	return (uintptr_t)fp >= thread->stack_low && fp < entry->fp && (uintptr_t)entry->fp < thread->stack_high &&
	       entry->fp[1] == entry->return_address;
}

static always_inline void scope_stack_prune(struct thread *thread, const uintptr_t *fp)
{
	if (unlikely(thread->scope_depth) && !scope_stands(thread, &thread->scopes[thread->scope_depth - 1], fp))
		scope_stack_prune_open(thread, fp);
}

/* Opens a scope. False: too deep (counted as lost). */
bool scope_stack_make_room(struct thread *thread);
static always_inline bool scope_stack_push(struct thread *thread, const struct scope_entry *entry)
{
	if (unlikely(thread->scope_depth == thread->scope_room) && !scope_stack_make_room(thread))
		return false;
	thread->scopes[thread->scope_depth++] = *entry;
	return true;
}

static always_inline void scope_stack_close_top(struct thread *thread)
{
	const struct scope_entry *entry = &thread->scopes[--thread->scope_depth];
	entry->close(thread, entry->saved);
}

/* The scope of the frame `fp` ends, and all that were opened inside it. */
void scope_stack_pop_several(struct thread *thread, const uintptr_t *fp);
static always_inline void scope_stack_pop(struct thread *thread, const uintptr_t *fp)
{
	uint32_t depth = thread->scope_depth;
	const struct scope_entry *end = thread->scopes + depth;
	if (likely(depth) && likely(end[-1].fp == fp) && likely(depth == 1 || end[-2].fp != fp))
		scope_stack_close_top(thread);
	else
		scope_stack_pop_several(thread, fp);
}

/* longjmp: everything below the stack pointer `sp` on the same stack is gone. */
void scope_stack_unwound(struct thread *thread, uintptr_t sp);

/* Whether `address` lies on the stack that runs now. Asks for its bounds at first. */
bool scope_on_present_stack(struct thread *thread, uintptr_t address);

/* Whether `address` lies on the thread's own stack, also while a coroutine runs. Asks for its bounds at first. */
bool scope_on_own_stack(struct thread *thread, uintptr_t address);

bool scope_stack_holds_among(const struct thread *thread, const void *marker);
static always_inline bool scope_stack_holds(const struct thread *thread, const void *marker)
{
	return unlikely(thread->scope_depth) && scope_stack_holds_among(thread, marker);
}

#endif
