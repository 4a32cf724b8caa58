/* From marker options to bound functions: each `frame=FUNC` becomes patched entries and marker records that say what was
   bound where, or why not. */
#ifndef FA_BIND_H
#define FA_BIND_H

#include "core/base.h"

struct binding;

/* Once, from the constructor. */
void bind_markers(void);

/* In the child of a fork that records on its own: the patches are there, their records are made anew. */
void bind_child(void);

/* An interposed waiting call begins; NULL when no marker is bound to it by interposition. errno is preserved. */
struct binding *bind_call_enter(const char *name, const uintptr_t *fp);
void bind_call_leave(struct binding *binding);

#endif
