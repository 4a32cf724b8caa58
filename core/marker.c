/* What a marker does when the program comes by: bindings' kinds turned into frames, awaits, regions and evidence. Inside
   a patched function: general registers only; what takes more is called through patch_guarded. */
#define _GNU_SOURCE
#include "core/marker_kinds.h"

#include "core/alloc.h"
#include "core/automatic.h"
#include "core/coroutine.h"
#include "core/mark/mark.h"
#include "core/nesting.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/scope.h"

#define AWAIT_NS 20000u /* a wait shorter than this has not given the thread away */

struct binding *marker_on_call[CALL_COUNT];

const char *call_name(enum call call)
{
	static const char *const names[CALL_COUNT] = {
#define CALL(result, name, parameters, arguments, waits) #name,
#include "core/calls.def"
#undef CALL
	};
	return names[call];
}

static void attach_now(void *a, void *b)
{
	(void)a, (void)b;
	if (runtime_current() == RUNTIME_RECORDING && thread_self->gate == 0)
		thread_attach(0, TRACE_ROLE_NONE);
}

static void attach(void *a, void *b)
{
	thread_internal_shielded(attach_now, a, b);
}

static __attribute__((noinline)) struct thread *attached_thread(void)
{
	if (!patch_is_guarded && !thread_self->gate)
		patch_guarded(attach, NULL, NULL);
	return !patch_is_guarded && thread_self->gate == THREAD_READY ? thread_self : NULL;
}

/* The calling thread with its gate shut, when markers count on it now. */
static always_inline struct thread *present_thread(void)
{
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY || patch_is_guarded))
		thread = attached_thread();
	if (likely(thread != NULL))
		thread_shut(thread);
	return thread;
}

static void become_frame_thread(void *context, void *given)
{
	struct thread *thread = context;
	const struct binding *binding = given;
	if (binding->all_threads || role_of_presenter(thread))
		role_set(thread, TRACE_ROLE_FRAME);
}

/* Whether a frame marker counts on this thread. Inside a frame of the API, whose memory is the program's until that ends,
   none does. */
static bool frames_here(struct thread *thread, const struct binding *binding)
{
	if (unlikely(thread->api_frames))
		return false;
	if (likely(thread->role == TRACE_ROLE_FRAME))
		return true;
	patch_guarded(become_frame_thread, thread, (void *)binding);
	return thread->role == TRACE_ROLE_FRAME;
}

/* Does what must not be left half done. */
static always_inline void whole(void (*work)(void *a, void *b), void *a, void *b)
{
	if (unlikely(atomic_load_explicit(&patch_cancels_anywhere, memory_order_relaxed)))
		patch_guarded(work, a, b);
	else
		work(a, b);
}

/* Two things that nest as one each, whichever marker opened them. */
static const char frame_scope, frame_wait;

static void end_frame(void *given, void *unused)
{
	struct thread *thread = given;
	(void)unused;
	if (!thread->api_frames) /* else another frame by now */
		scope_frame_end(thread);
}

static void close_frame(struct thread *thread, uintptr_t saved)
{
	(void)saved;
	whole(end_frame, thread, NULL);
}

static void close_wait(struct thread *thread, uintptr_t saved)
{
	(void)saved;
	scope_idle_end(thread);
}

/* It may have begun on another thread. */
static void close_await(struct thread *thread, uintptr_t began_ns)
{
	if ((int64_t)(clock_now(&thread->clock) - began_ns) >= AWAIT_NS)
		scope_await(thread);
}

static void close_tag(struct thread *thread, uintptr_t saved)
{
	scope_tag(thread, (uint32_t)saved);
}

static void waited(void *binding, void *unused)
{
	(void)unused;
	automatic_waited(binding);
}

static void close_candidate(struct thread *thread, uintptr_t binding)
{
	(void)thread;
	patch_guarded(waited, (void *)binding, NULL);
}

/* Openings: each answers whether the end must be seen. */

static void make_boundary(void *given, void *unused)
{
	const struct marker_event *event = given;
	(void)unused;
	marker_count_call(event->thread, event->binding);
	scope_frame_boundary(event->thread, event->binding->index, event->fp);
}

static void boundary(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	struct marker_event event = {thread, binding, fp, false};
	thread->boundary_by = binding;
	whole(make_boundary, &event, NULL);
}

static void see_candidate(void *given, void *unused)
{
	(void)unused;
	struct marker_event *event = given;
	event->answer = automatic_seen(event->thread, event->binding);
}

static bool is_boundary_now(struct thread *thread, struct binding *binding)
{
	struct marker_event event = {thread, binding, NULL, false};
	patch_guarded(see_candidate, &event, NULL);
	return event.answer;
}

static bool enter_wait(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	if (scope_stack_holds(thread, &frame_wait) || !frames_here(thread, binding))
		return false;
	boundary(thread, binding, fp);
	return marker_open_scope(thread, fp, &frame_wait, close_wait, 0);
}

static bool enter_frame_scope(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (scope_stack_holds(thread, &frame_scope) || !frames_here(thread, binding))
		return false;
	boundary(thread, binding, fp);
	return returns && marker_open_scope(thread, fp, &frame_scope, close_frame, 0);
}

static always_inline bool enter_tag(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (thread->tag == binding->tag || !returns)
		return false;
	marker_count_call(thread, binding);
	if (!marker_open_scope(thread, fp, binding, close_tag, thread->tag))
		return false;
	scope_tag(thread, binding->tag);
	return true;
}

static void learn_await_path(void *thread, void *fp)
{
	scope_await_path(thread, fp);
}

static void count_await(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	marker_count_call(thread, binding);
	if (!scope_await_path_known(thread, fp))
		patch_guarded(learn_await_path, thread, (void *)fp);
}

static bool enter_await(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	if (scope_stack_holds(thread, binding))
		return false;
	count_await(thread, binding, fp);
	return marker_open_scope(thread, fp, binding, close_await, clock_now(&thread->clock));
}

static void note(void *reason, void *unused)
{
	(void)unused;
	base_text_copy(reason, sizeof((struct trace_marker *)0)->reason,
		       "some calls count at their entry only: where their stack arguments end is unknown");
}

static void note_passed_by(struct binding *binding)
{
	if (binding->record && !binding->record->reason[0])
		patch_guarded(note, binding->record->reason, NULL);
}

static bool enter(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns, bool may_wait)
{
	if (unlikely(!returns))
		note_passed_by(binding);
	switch ((enum policy_marker_kind)atomic_load_explicit(&binding->kind, memory_order_relaxed)) {
	case POLICY_FRAME:
		/* Who names a call means each of its calls; what was found by itself was found by those that wait. */
		return (may_wait || !binding->described.candidate) && enter_wait(thread, binding, fp);
	case POLICY_FRAME_SCOPE:
		return enter_frame_scope(thread, binding, fp, returns);
	case POLICY_REGION:
		return enter_tag(thread, binding, fp, returns);
	case POLICY_TASK:
		return marker_enter_task(thread, binding, fp, returns);
	case POLICY_TASK_END:
		return marker_enter_task_end(thread, binding, fp, returns);
	case POLICY_AWAIT:
		return may_wait && enter_await(thread, binding, fp);
	case POLICY_WAIT:
	case POLICY_SLEEP:
		if (!may_wait)
			return false;
		if (is_boundary_now(thread, binding))
			return enter_wait(thread, binding, fp);
		return automatic_wants_return(binding) &&
		       marker_open_scope(thread, fp, binding, close_candidate, (uintptr_t)binding);
	case POLICY_PRESENT:
	case POLICY_TRANSFER:
	case POLICY_STACK:
	case POLICY_SWITCH:
		break;
	}
	return false;
}

/* All bindings of one function or call. */
static bool enter_all(struct binding *first, const uintptr_t *fp, bool returns, bool may_wait)
{
	struct thread *thread = present_thread();
	bool leaves = false;
	if (!thread)
		return false;
	scope_stack_prune(thread, fp);
	for (struct binding *binding = first; binding; binding = binding->next)
		leaves |= enter(thread, binding, fp, returns, may_wait);
	thread_open(thread);
	return leaves;
}

static void hand_over(void *block, void *unused)
{
	(void)unused;
	alloc_hand_over(block);
}

static void pass_boundary(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	if (!scope_stack_holds(thread, &frame_wait) && frames_here(thread, binding) &&
	    !nesting_is_within(thread, binding, fp))
		boundary(thread, binding, fp);
}

/* The same for places that are bound at their entry only. */
static __attribute__((noinline)) void pass_other(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	struct marker_event event = {thread, binding, fp, false};
	switch ((enum policy_marker_kind)atomic_load_explicit(&binding->kind, memory_order_relaxed)) {
	case POLICY_PRESENT:
	case POLICY_WAIT:
	case POLICY_SLEEP:
		if (!is_boundary_now(thread, binding))
			break;
		__attribute__((fallthrough));
	case POLICY_FRAME:
		/* Found by itself on one thread; another may take the boundary over. */
		if (unlikely(binding->described.candidate && binding->evidence.thread != thread->record_index + 1) &&
		    !is_boundary_now(thread, binding))
			break;
		pass_boundary(thread, binding, fp);
		break;
	case POLICY_AWAIT:
		count_await(thread, binding, fp);
		scope_await(thread);
		break;
	case POLICY_TRANSFER:
		marker_count_call(thread, binding);
		patch_guarded(hand_over, (void *)patch_argument(fp, 1), NULL);
		break;
	case POLICY_STACK:
		marker_count_call(thread, binding);
		patch_guarded(marker_prepare_stack, &event, NULL);
		break;
	case POLICY_SWITCH:
		marker_count_call(thread, binding);
		patch_guarded(marker_switch_stack, &event, NULL);
		break;
	case POLICY_FRAME_SCOPE:
	case POLICY_REGION:
	case POLICY_TASK:
	case POLICY_TASK_END:
		break;
	}
}

static void pass(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	bool named = atomic_load_explicit(&binding->kind, memory_order_relaxed) == POLICY_FRAME &&
		     !binding->described.candidate;
	if (likely(named))
		pass_boundary(thread, binding, fp);
	else
		pass_other(thread, binding, fp);
}

void marker_entry(void *context, const uintptr_t *fp)
{
	struct thread *thread = present_thread();
	if (unlikely(!thread))
		return;
	scope_stack_prune(thread, fp);
	for (struct binding *binding = context; binding; binding = binding->next)
		pass(thread, binding, fp);
	thread_open(thread);
}

/* A region is entered time and again in a frame: alone on its function, as most are, without the loop and the switch. */
static bool enter_region(struct binding *binding, const uintptr_t *fp)
{
	struct thread *thread = present_thread();
	if (unlikely(!thread))
		return false;
	scope_stack_prune(thread, fp);
	bool leaves = enter_tag(thread, binding, fp, true);
	thread_open(thread);
	return leaves;
}

bool marker_scope_enter(void *context, const uintptr_t *fp, bool returns)
{
	struct binding *first = context;
	bool region = atomic_load_explicit(&first->kind, memory_order_relaxed) == POLICY_REGION;
	return likely(region) && likely(!first->next) && likely(returns) ? enter_region(first, fp)
									 : enter_all(first, fp, returns, true);
}

static void leave(const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	if (!(thread->gate & THREAD_READY) || !thread->scope_depth)
		return; /* the child of a fork */
	thread_busy(thread);
	scope_stack_pop(thread, fp);
	thread_idle(thread);
}

void marker_scope_leave(void *context, const uintptr_t *fp)
{
	(void)context;
	leave(fp);
}

bool marker_call_enter(enum call call, bool waits, const uintptr_t *fp)
{
	bool leaves = enter_all(marker_on_call[call], fp, true, waits);
	return leaves;
}

void marker_call_leave(const uintptr_t *fp)
{
	leave(fp);
}

/* A coroutine whose function has returned does not leave by a jump, so where this one jumps from does not matter. */
static void jump(void *thread, void *sp)
{
	coroutine_jump(thread, 0, *(uintptr_t *)sp);
}

void marker_jump(uintptr_t sp)
{
	struct thread *thread = thread_self;
	bool coroutines = coroutine_any();
	if (likely(!thread->scope_depth && !coroutines) || !(thread->gate & THREAD_READY) ||
	    thread->gate & (THREAD_BUSY | THREAD_INTERNAL))
		return;
	thread_busy(thread);
	if (coroutines)
		patch_guarded(jump, thread, &sp);
	scope_stack_unwound(thread, sp);
	thread_idle(thread);
}

struct trace_marker *marker_record(struct binding *binding)
{
	if (likely(binding->record != NULL))
		return binding->record;
	binding->record = trace_append(&trace_markers, &binding->described, &binding->index);
	if (!binding->record)
		trace_loss(TRACE_LOSS_MARKERS, 1);
	return binding->record;
}
