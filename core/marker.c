/* What a marker does when the program comes by: bindings' kinds turned into frames, awaits, regions and evidence. Inside
   a patched function: general registers only; what takes more is called through patch_guarded. */
#define _GNU_SOURCE
#include "core/marker.h"

#include "core/alloc.h"
#include "core/attach.h"
#include "core/automatic.h"
#include "core/coroutine.h"
#include "core/mark/mark.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/scope_stack.h"
#include "core/task.h"
#include "core/thread.h"
#include "core/trace/writer.h"

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

/* The first thread to come by counts for itself, without a locked instruction. */
static always_inline void count_call(const struct thread *thread, struct binding *binding)
{
	struct trace_marker *record = binding->record;
	if (unlikely(!record))
		return;
	if (unlikely(!binding->owner))
		__atomic_compare_exchange_n(&binding->owner, &(const struct thread *){NULL}, thread, false, __ATOMIC_RELAXED,
		                            __ATOMIC_RELAXED);
	if (likely(__atomic_load_n(&binding->owner, __ATOMIC_RELAXED) == thread))
		__atomic_store_n(&record->calls, record->calls + 1, __ATOMIC_RELAXED);
	else
		trace_add(&record->calls_elsewhere, 1);
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

static void close_task(struct thread *thread, uintptr_t outer)
{
	task_leave_api(thread, NULL);
	if (thread->task)
		task_leave(thread, (struct task *)outer);
}

static void end_task(void *thread, void *id)
{
	struct task *task = task_of_id((uint32_t)(uintptr_t)id);
	if (task)
		task_end(thread, task);
}

static void close_task_end(struct thread *thread, uintptr_t id)
{
	patch_guarded(end_task, thread, (void *)id);
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

static bool open_scope(struct thread *thread, const uintptr_t *fp, const void *marker, scope_close_fn close,
		       uintptr_t saved)
{
	struct scope_entry entry = {fp, fp[1], close, saved, marker};
	return scope_stack_push(thread, &entry);
}

/* Openings: each answers whether the end must be seen. */

struct event {
	struct thread *thread;
	struct binding *binding;
	const uintptr_t *fp;
	bool answer;
};

static void make_boundary(void *given, void *unused)
{
	const struct event *event = given;
	(void)unused;
	count_call(event->thread, event->binding);
	scope_frame_boundary(event->thread, event->binding->index, event->fp);
}

static void boundary(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	struct event event = {thread, binding, fp, false};
	whole(make_boundary, &event, NULL);
}

static void see_candidate(void *given, void *unused)
{
	(void)unused;
	struct event *event = given;
	event->answer = automatic_seen(event->thread, event->binding);
}

static bool is_boundary_now(struct thread *thread, struct binding *binding)
{
	struct event event = {thread, binding, NULL, false};
	patch_guarded(see_candidate, &event, NULL);
	return event.answer;
}

static bool enter_wait(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	if (scope_stack_holds(thread, &frame_wait) || !frames_here(thread, binding))
		return false;
	boundary(thread, binding, fp);
	return open_scope(thread, fp, &frame_wait, close_wait, 0);
}

static bool enter_frame_scope(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (scope_stack_holds(thread, &frame_scope) || !frames_here(thread, binding))
		return false;
	boundary(thread, binding, fp);
	return returns && open_scope(thread, fp, &frame_scope, close_frame, 0);
}

static always_inline bool enter_tag(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (thread->tag == binding->tag || !returns)
		return false;
	count_call(thread, binding);
	if (!open_scope(thread, fp, binding, close_tag, thread->tag))
		return false;
	scope_tag(thread, binding->tag);
	return true;
}

/* Tasks: the first argument is the task. */

static void find_task(void *given, void *found)
{
	const struct event *event = given;
	const struct trace_marker *described = &event->binding->described;
	struct task_type type = {TRACE_TASK_POLL, event->binding->address, described->name};
	if (!type.function && described->module != TRACE_NO_MODULE)
		type.function = ((struct trace_module *)trace_at(&trace_modules, described->module))->base + described->offset;
	uint32_t *number = &event->binding->task_type;
	if (!*number)
		*number = task_type_of(&type);
	if (event->thread->role == TRACE_ROLE_NONE && !(event->thread->record->flags & TRACE_THREAD_MAIN))
		role_set(event->thread, TRACE_ROLE_ASYNC);
	*(struct task **)found = task_of_key(event->thread, *number, patch_around_argument(event->fp));
}

static struct task *task_here(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	uintptr_t key = patch_around_argument(fp);
	uint32_t place = (uint32_t)((key >> 4) * 0x9e3779b97f4a7c15u >> 54) % THREAD_TASK_CACHE;
	struct task *task = thread->task_cache[place].task;
	if (likely(task && thread->task_cache[place].key == key && task->id == thread->task_cache[place].id))
		return task;
	struct event event = {thread, binding, fp, false};
	task = NULL;
	patch_guarded(find_task, &event, &task);
	if (task) {
		thread->task_cache[place].key = key;
		thread->task_cache[place].task = task;
		thread->task_cache[place].id = task->id;
	}
	return task;
}

static bool enter_task(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (!returns)
		return false;
	count_call(thread, binding);
	struct task *task = task_here(thread, binding, fp);
	if (!task || !task_claim_marked(thread, task))
		return false;
	struct task *outer = task_enter(thread, task);
	if (likely(open_scope(thread, fp, binding, close_task, (uintptr_t)outer)))
		return true;
	task_leave(thread, outer);
	return false;
}

static void find_ending(void *given, void *found)
{
	const struct event *event = given;
	struct attachment attached;
	struct task *task = NULL;
	if (attach_find(patch_around_argument(event->fp), ATTACH_TASK, &attached))
		task = task_of_id((uint32_t)attached.mark);
	*(struct task **)found = task;
}

static bool enter_task_end(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	struct event event = {thread, binding, fp, false};
	struct task *task = NULL;
	count_call(thread, binding);
	patch_guarded(find_ending, &event, &task);
	if (!task)
		return false;
	task->ending = true;
	if (returns && open_scope(thread, fp, binding, close_task_end, task->id))
		return true;
	close_task_end(thread, task->id);
	return false;
}

static uintptr_t value_at(struct policy_where where, const uintptr_t *fp)
{
	if (!where.argument)
		return 0;
	uintptr_t value = patch_argument(fp, where.argument);
	return where.memory ? *(const uintptr_t *)(value + where.offset) : value;
}

/* The words lie where the marked function is about to read them itself. */
static void prepare_stack(void *given, void *unused)
{
	(void)unused;
	const struct event *event = given;
	const struct policy_marker *marker = &policy_in_force.marker[event->binding->marker];
	uintptr_t size = value_at(marker->size, event->fp), low = value_at(marker->low, event->fp);
	if (marker->top.argument)
		low = value_at(marker->top, event->fp) - size;
	coroutine_prepare(event->thread, low, low + size, value_at(marker->entry, event->fp));
}

static void switch_stack(void *given, void *unused)
{
	(void)unused;
	const struct event *event = given;
	const struct policy_marker *marker = &policy_in_force.marker[event->binding->marker];
	coroutine_switch(event->thread, (uintptr_t)(event->fp + 2), value_at(marker->to, event->fp), marker->function);
}

static void learn_await_path(void *thread, void *fp)
{
	scope_await_path(thread, fp);
}

static void count_await(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	count_call(thread, binding);
	if (!scope_await_path_known(thread, fp))
		patch_guarded(learn_await_path, thread, (void *)fp);
}

static bool enter_await(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	if (scope_stack_holds(thread, binding))
		return false;
	count_await(thread, binding, fp);
	return open_scope(thread, fp, binding, close_await, clock_now(&thread->clock));
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
		return enter_task(thread, binding, fp, returns);
	case POLICY_TASK_END:
		return enter_task_end(thread, binding, fp, returns);
	case POLICY_AWAIT:
		return may_wait && enter_await(thread, binding, fp);
	case POLICY_WAIT:
	case POLICY_SLEEP:
		if (!may_wait)
			return false;
		if (is_boundary_now(thread, binding))
			return enter_wait(thread, binding, fp);
		return automatic_wants_return(binding) && open_scope(thread, fp, binding, close_candidate, (uintptr_t)binding);
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
	if (!scope_stack_holds(thread, &frame_wait) && frames_here(thread, binding))
		boundary(thread, binding, fp);
}

/* The same for places that are bound at their entry only. */
static __attribute__((noinline)) void pass_other(struct thread *thread, struct binding *binding, const uintptr_t *fp)
{
	struct event event = {thread, binding, fp, false};
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
		count_call(thread, binding);
		patch_guarded(hand_over, (void *)patch_argument(fp, 1), NULL);
		break;
	case POLICY_STACK:
		count_call(thread, binding);
		patch_guarded(prepare_stack, &event, NULL);
		break;
	case POLICY_SWITCH:
		count_call(thread, binding);
		patch_guarded(switch_stack, &event, NULL);
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
	bool named = atomic_load_explicit(&binding->kind, memory_order_relaxed) == POLICY_FRAME && !binding->described.candidate;
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

/* A region is entered time and again in a frame; alone on its function it needs few of the registers that enter_all saves. */
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
	return likely(region) && likely(!first->next) && likely(returns) ? enter_region(first, fp) : enter_all(first, fp, returns, true);
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
