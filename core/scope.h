/*
 * Scopes: frames, for now the only kind that a marker opens. A boundary ends the open frame and begins the next.
 */
#ifndef FA_SCOPE_H
#define FA_SCOPE_H

#include "core/thread.h"

/* A frame boundary on the calling thread. `fp`: frame of the marked function's caller side, for the call path.
   `marker` is the marker's record index. Cost: about 100 ns, plus a walk of the spans that stay pinned. */
void scope_frame_boundary(struct thread *thread, uint32_t marker, const uintptr_t *fp);

/* Around a boundary that blocks: the time between is idle, not frame time. */
void scope_idle_begin(struct thread *thread);
void scope_idle_end(struct thread *thread);

/* FA604: looked at when the thread's live bytes grow. */
void scope_check_never_ends(struct thread *thread);

/* Takes a site out of this thread's frame tier. */
void scope_demote(struct thread *thread, uint32_t site);

#endif
