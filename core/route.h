/*
 * Which tier serves a block: a pure function of what is known at the allocation (DESIGN §4, "Routing", first match
 * wins). No state, no side effect: tested without preloading anything.
 */
#ifndef FA_ROUTE_H
#define FA_ROUTE_H

#include "core/base.h"
#include "core/trace/format.h"

struct route_request {
	size_t size, align;
	enum trace_role role;
	bool in_frame; /* a frame is open on this thread */
	bool in_task; /* a task is open on this thread, inside the frame if there is one */
	bool demoted; /* the site's blocks kept pinning frame spans */
	uint32_t rule; /* tier that an explicit rule names, + 1; 0: none */
	size_t frame_max; /* largest block of the frame tier */
	size_t pool_max; /* largest block of the pool tier */
};

/* Alignment beyond the header's costs a gap before it: only the heap tier pays that. */
#define ROUTE_ALIGN_MAX 16u

static always_inline enum trace_tier route_pick(const struct route_request *r)
{
	if (unlikely(r->align > ROUTE_ALIGN_MAX))
		return TRACE_TIER_HEAP;
	if (unlikely(r->rule)) {
		if (r->rule == TRACE_TIER_HEAP + 1)
			return TRACE_TIER_HEAP;
		if (r->rule == TRACE_TIER_POOL + 1)
			return r->size <= r->pool_max ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
		/* Frame memory without a frame there is none, and none larger than its limit: as without the rule. */
		if (r->in_frame && !r->in_task && r->size <= r->frame_max)
			return TRACE_TIER_FRAME;
	}
	if (r->in_task || r->role >= TRACE_ROLE_WORKER)
		return r->size <= r->pool_max ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
	if (r->role == TRACE_ROLE_FRAME && r->in_frame) {
		if (likely(!r->demoted) && r->size <= r->frame_max)
			return TRACE_TIER_FRAME;
		if (r->demoted && r->size <= r->pool_max)
			return TRACE_TIER_POOL;
	}
	return TRACE_TIER_HEAP;
}

/* The tier of a block that is resized in a later segment than it was born in: it has shown that it lives longer, so it
   is kept out of the frame tier. `picked` is what route_pick says of a fresh block, `was` its tier so far. */
static always_inline enum trace_tier route_resize(enum trace_tier picked, enum trace_tier was, size_t size,
						  size_t pool_max)
{
	if (picked != TRACE_TIER_FRAME)
		return picked;
	return was != TRACE_TIER_HEAP && size <= pool_max ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
}

#endif
