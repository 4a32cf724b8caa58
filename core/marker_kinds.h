/*
 * What the kinds of markers share, and those that are kept apart from marker.c: tasks and their stacks. Inside a patched
 * function: general registers only.
 */
#ifndef FA_MARKER_KINDS_H
#define FA_MARKER_KINDS_H

#include "core/marker.h"
#include "core/scope_stack.h"
#include "core/thread.h"
#include "core/trace/writer.h"

/* A program has come by a bound place: what a guarded call is told of it. */
struct marker_event {
	struct thread *thread;
	struct binding *binding;
	const uintptr_t *fp;
	bool answer;
};

/* The first thread to come by counts for itself, without a locked instruction. */
static always_inline void marker_count_call(const struct thread *thread, struct binding *binding)
{
	struct trace_marker *record = binding->record;
	if (unlikely(!record))
		return;
	if (unlikely(!binding->owner))
		__atomic_compare_exchange_n(&binding->owner, &(const struct thread *){NULL}, thread, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (likely(__atomic_load_n(&binding->owner, __ATOMIC_RELAXED) == thread))
		__atomic_store_n(&record->calls, record->calls + 1, __ATOMIC_RELAXED);
	else
		trace_add(&record->calls_elsewhere, 1);
}

/* Opens a scope that ends when the marked function returns. False: too deep. */
static always_inline bool marker_open_scope(struct thread *thread, const uintptr_t *fp, const void *marker,
					    scope_close_fn close, uintptr_t saved)
{
	struct scope_entry entry = {fp, fp[1], close, saved, marker};
	return scope_stack_push(thread, &entry);
}

/* The first argument is the task. Whether the return must be seen. */
bool marker_enter_task(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns);
bool marker_enter_task_end(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns);

/* A coroutine's stack is made, the thread is about to go on on another; through patch_guarded. */
void marker_prepare_stack(void *event, void *unused);
void marker_switch_stack(void *event, void *unused);

#endif
