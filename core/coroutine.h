/*
 * Coroutines with stacks of their own: ucontext, boost::context, minicoro and the like. Which coroutine runs is told by
 * the stack that a thread goes to; each is a task, each of its resumptions a poll (task.h), and what a thread keeps for
 * its own stack (open scopes, region, tasks polled there) each coroutine's stack has as well.
 *
 * A stack is known from the function that prepares it (policy key `stack`), or else found around the first stack pointer
 * that is switched to: the block or the mapping it lies in. The coroutine ends when its stack's block is freed, when its
 * function has returned (ucontext), or when the same stack is prepared again.
 */
#ifndef FA_COROUTINE_H
#define FA_COROUTINE_H

#include "core/thread.h"

/* A stack [low, high) is prepared for `entry` (0: unknown). Any thread. */
void coroutine_prepare(struct thread *thread, uintptr_t low, uintptr_t high, uintptr_t entry);

/* The thread, whose stack pointer is `from`, is about to go on at stack pointer `to`. `by`: the function that does it, a
   name for coroutines whose entry is unknown. */
void coroutine_switch(struct thread *thread, uintptr_t from, uintptr_t to, const char *by);

/* The same by a longjmp: a switch only where `to` lies on another stack that is known, else nothing. One load where there
   are no coroutines. */
void coroutine_jump(struct thread *thread, uintptr_t from, uintptr_t to);
bool coroutine_any(void);

/* Its stack is freed. Nothing when it has ended otherwise meanwhile. */
void coroutine_end_named(struct thread *thread, struct coroutine *coroutine, uint64_t serial);

void coroutine_child(void);

#endif
