/*
 * Frame boundaries that come within the last one: nested calls of marked functions count once (DESIGN §5). A function may call
 * itself, or pass the call on to one of the same name in another library, as SDL 2 does where it is made of SDL 3. Only entries
 * are seen; whether the last one's function still runs is told by the stack, and by what code it has where that is a jump.
 */
#ifndef FA_NESTING_H
#define FA_NESTING_H

#include "core/thread.h"

struct binding;

bool nesting_look(struct thread *thread, const struct binding *binding, const uintptr_t *fp);

/* The entry of a function that `binding` marks, at frame address `fp`: whether it is no boundary, since the last one's function
   has called it, or has jumped to it. Cost: two compares where it lies no further in than the last one. */
static always_inline bool nesting_is_within(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	uintptr_t last = thread->boundary_stack;
	bool again = (uintptr_t)fp == last && thread->boundary_by == binding;
	if (likely((uintptr_t)fp > last || again) || !nesting_look(thread, binding, fp)) {
		thread->boundary_passed_on = NULL;
		return false;
	}
	return true;
}

#endif
