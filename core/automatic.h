/*
 * Zero configuration: which of the watched calls is the frame boundary (DESIGN §5). Candidates come in classes, the
 * better first: calls that show a picture, the main thread's event-loop waits, its pacing sleeps. The first that is
 * called periodically is taken. A better one that shows up soon after, or one that goes on when the chosen one has
 * fallen silent, may replace it, once.
 */
#ifndef FA_AUTOMATIC_H
#define FA_AUTOMATIC_H

#include "core/marker.h"
#include "core/thread.h"

/* Binding takes part. Called while markers are bound; the lower `order`, the better within its class. */
void automatic_watch(struct binding *binding, uint32_t order);

/* A candidate is called. True: it is the frame boundary (now). */
bool automatic_seen(struct thread *thread, struct binding *binding);

/* Whether the return of a candidate's call is worth seeing: then automatic_waited tells of it. */
extern _Atomic bool automatic_is_settled;
static always_inline bool automatic_wants_return(const struct binding *binding)
{
	return binding->evidence.calls && !atomic_load_explicit(&automatic_is_settled, memory_order_relaxed);
}
void automatic_waited(struct binding *binding);

/* The program itself says where its frames are: the search is over, and what it found is a boundary no more. */
void automatic_stop(void);

/* In the child of a fork that records on its own: the search begins anew. */
void automatic_child(void);

/* At the end: what the runners-up came to goes to their records. */
void automatic_finish(void);

#endif
