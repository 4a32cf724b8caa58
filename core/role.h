/* Which role a thread has, by the rules of options and policy: a pure look at what is known of it. */
#ifndef FA_ROLE_H
#define FA_ROLE_H

#include "core/thread.h"

/* Resolves the functions that roles name; again for each module that appears later. From bind.c. */
void role_bind(void);

/* The role that the first fitting rule gives the thread now, TRACE_ROLE_NONE when none fits. */
enum trace_role role_of(const struct thread *thread);

/* A frame marker is called on a thread that has no role for it: a rule may say that this makes it a frame thread. */
bool role_of_presenter(const struct thread *thread);

#endif
