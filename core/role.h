/* Which role a thread has by the rules of options and policy, a pure look at what is known of it; and how it comes to have it. */
#ifndef FA_ROLE_H
#define FA_ROLE_H

#include "core/thread.h"

/* Resolves the functions that roles name; again for each module that appears later. From bind.c. */
void role_bind(void);
void role_forget(uintptr_t start, uintptr_t end); /* a module that has gone */

/* The role that the first fitting rule gives the thread now, TRACE_ROLE_NONE when none fits. */
enum trace_role role_of(const struct thread *thread);

/* A frame marker is called on a thread that has no role for it: a rule may say that this makes it a frame thread. */
bool role_of_presenter(const struct thread *thread);

/* The calling thread's role from now on. */
void role_set(struct thread *thread, enum trace_role role);

/* A thread, the calling one or another, has got this name; NULL: the calling one, whose name the kernel knows. Gives it the
   role that the rules say. */
void role_named(struct thread *thread, const char *name);

/* Another thread has given this one a name, and with it a role: the next birth on the general path takes it. */
void role_take_wanted(struct thread *thread);

#endif
