/*
 * Markers at work: what happens when the program comes by a bound place. bind.c makes bindings, connect.c connects them to
 * code; the functions here run on the program's threads.
 */
#ifndef FA_MARKER_H
#define FA_MARKER_H

#include "core/base.h"
#include "core/mark/mark.h"
#include "core/registry/policy.h"
#include "core/trace/format.h"

struct thread;

enum call {
#define CALL(result, name, parameters, arguments, waits) CALL_##name,
#include "core/calls.def"
#undef CALL
	CALL_COUNT
};

/* What zero configuration knows of a candidate. Written by the thread that `thread` names only. */
struct evidence {
	uint32_t calls;
	uint32_t thread; /* record index + 1; 0: not called yet */
	uint32_t order; /* among the candidates: the lower the better */
	uint64_t first_ns, last_ns, gap_max_ns, deviation_ns;
	uint64_t waited_ns; /* inside its calls, where their return is seen */
};

/* A marker and one function that it is bound to. */
struct binding {
	struct trace_marker *record; /* NULL: a candidate that was never called */
	uint32_t index; /* of the record */
	_Atomic uint32_t kind; /* enum policy_marker_kind: a candidate that is chosen becomes POLICY_FRAME */
	bool all_threads;
	bool around; /* bound around the function, not at its entry */
	bool leads; /* the first of its function: the patch's context */
	bool watched; /* by zero configuration */
	uint32_t marker; /* place in the policy */
	uint32_t tag; /* POLICY_REGION */
	uint32_t task_type; /* POLICY_TASK: of the trace_task_types, 0: not asked yet */
	const struct thread *owner; /* counts calls in the record without atomics */
	struct evidence evidence;
	struct binding *next; /* of the same function or call, in the order they were asked for */
	uintptr_t address; /* of the function; 0: an interposed call */
	uintptr_t end; /* of its code, as far as that is known */
	struct mark_jump jump; /* that it consists of */
	struct trace_marker described; /* the record as it was made: for late records and children */
};

/* Bindings of interposed calls, NULL for most. */
extern struct binding *marker_on_call[CALL_COUNT];
const char *call_name(enum call call);

/* The callbacks of patched functions; `context` is the first binding of the function. */
void marker_entry(void *context, const uintptr_t *fp);
bool marker_scope_enter(void *context, const uintptr_t *fp, bool returns);
void marker_scope_leave(void *context, const uintptr_t *fp);

/* An interposed call begins; `waits`: it may block. True: marker_call_leave must follow. errno is preserved. */
bool marker_call_enter(enum call call, bool waits, const uintptr_t *fp);
void marker_call_leave(const uintptr_t *fp);

/* The thread is about to jump to a frame at stack pointer `sp`. */
void marker_jump(uintptr_t sp);

/* The record of a binding, made when it is first needed. NULL: the table is full. */
struct trace_marker *marker_record(struct binding *binding);

#endif
