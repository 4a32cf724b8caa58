/* Markers of tasks and of their stacks. Inside a patched function: general registers only; what takes more is called through
   patch_guarded. */
#include "core/marker_kinds.h"

#include "core/attach.h"
#include "core/coroutine.h"
#include "core/mark/mark.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/task.h"

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

static void find_task(void *given, void *found)
{
	const struct marker_event *event = given;
	const struct trace_marker *described = &event->binding->described;
	struct task_type type = {TRACE_TASK_POLL, event->binding->address, described->name};
	if (!type.function && described->module != TRACE_NO_MODULE)
		type.function =
			((struct trace_module *)trace_at(&trace_modules, described->module))->base + described->offset;
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
	struct marker_event event = {thread, binding, fp, false};
	task = NULL;
	patch_guarded(find_task, &event, &task);
	if (task) {
		thread->task_cache[place].key = key;
		thread->task_cache[place].task = task;
		thread->task_cache[place].id = task->id;
	}
	return task;
}

bool marker_enter_task(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	if (!returns)
		return false;
	marker_count_call(thread, binding);
	struct task *task = task_here(thread, binding, fp);
	if (!task || !task_claim_marked(thread, task))
		return false;
	struct task *outer = task_enter(thread, task);
	if (likely(marker_open_scope(thread, fp, binding, close_task, (uintptr_t)outer)))
		return true;
	task_leave(thread, outer);
	return false;
}

static void find_ending(void *given, void *found)
{
	const struct marker_event *event = given;
	struct attachment attached;
	struct task *task = NULL;
	if (attach_find(patch_around_argument(event->fp), ATTACH_TASK, &attached))
		task = task_of_id((uint32_t)attached.mark);
	*(struct task **)found = task;
}

bool marker_enter_task_end(struct thread *thread, struct binding *binding, const uintptr_t *fp, bool returns)
{
	struct marker_event event = {thread, binding, fp, false};
	struct task *task = NULL;
	marker_count_call(thread, binding);
	patch_guarded(find_ending, &event, &task);
	if (!task)
		return false;
	task->ending = true;
	if (returns && marker_open_scope(thread, fp, binding, close_task_end, task->id))
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
void marker_prepare_stack(void *given, void *unused)
{
	(void)unused;
	const struct marker_event *event = given;
	const struct policy_marker *marker = &policy_in_force.marker[event->binding->marker];
	uintptr_t size = value_at(marker->size, event->fp), low = value_at(marker->low, event->fp);
	if (marker->top.argument)
		low = value_at(marker->top, event->fp) - size;
	coroutine_prepare(event->thread, low, low + size, value_at(marker->entry, event->fp));
}

void marker_switch_stack(void *given, void *unused)
{
	(void)unused;
	const struct marker_event *event = given;
	const struct policy_marker *marker = &policy_in_force.marker[event->binding->marker];
	coroutine_switch(event->thread, (uintptr_t)(event->fp + 2), value_at(marker->to, event->fp), marker->function);
}
