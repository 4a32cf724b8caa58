/* Tasks and guards: who owns blocks, and frees them at its end. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

#include "core/api_place.h"
#include "core/node.h"
#include "core/store.h"
#include "core/violation.h"

static struct store guards = {.record_bytes = 64};
static_assert(sizeof(struct guard) <= 64, "record of the store");

static struct store spare_tasks = {.record_bytes = 192}; /* of processes that record nothing */
static_assert(sizeof(struct task) <= 192, "record of the store");

static struct base_lock family_lock; /* parents and children of tasks */

static struct task *unrecorded_task(void)
{
	struct task *task = store_take(&spare_tasks);
	if (!task)
		return NULL;
	task->id = UINT32_MAX;
	api_bare_begun();
	return task;
}

struct task *api_task_new(struct task *parent, const char *name, const uintptr_t *fp)
{
	(void)fp;
	struct place place = api_enter();
	struct task_type type = {TRACE_TASK_API, 0, name ? name : ""};
	struct task *task = place.thread ? task_begin(place.thread, task_type_of(&type), 0) : unrecorded_task();
	if (!task)
		errno = ENOMEM;
	else
		task->of_api = true;
	if (task && parent && base_lock(&family_lock)) {
		task->parent = parent;
		task->younger = parent->children;
		if (task->younger)
			task->younger->elder = task;
		parent->children = task;
		base_unlock(&family_lock);
	}
	api_leave(place);
	return task;
}

/* Out of its parent's children. */
static void leave_family(struct task *task)
{
	if (!task->parent || !base_lock(&family_lock))
		return;
	if (task->elder)
		task->elder->younger = task->younger;
	else if (task->parent->children == task)
		task->parent->children = task->younger;
	if (task->younger)
		task->younger->elder = task->elder;
	task->parent = task->elder = task->younger = NULL;
	base_unlock(&family_lock);
}

/* Who visits the task is waited for: to the program it does not run. */
static bool claim(struct thread *thread, struct task *task)
{
	for (unsigned spins = 0; !task_claim(thread, task); spins++) {
		uint32_t runner = atomic_load(&task->runs_on);
		if (runner && !(runner & TASK_VISITED))
			return false;
		if (spins < 64)
			__builtin_ia32_pause();
		else
			syscall(SYS_sched_yield);
	}
	return true;
}

int api_task_enter(struct task *task)
{
	if (!task || !task->id)
		return -EINVAL;
	struct place place = api_enter();
	bool entered = place.thread ? claim(place.thread, task) : api_bare_enter(task, true);
	if (entered && place.thread)
		task->outer = task_enter(place.thread, task);
	api_leave(place);
	return entered ? 0 : -EBUSY;
}

/* Whether the task can be left here: nothing but tasks of the API runs inside it. */
static bool runs_here(const struct thread *thread, const struct task *task)
{
	for (const struct task *inner = api_present_task(thread); inner && inner->of_api; inner = inner->outer)
		if (inner == task)
			return true;
	return false;
}

int api_task_leave(struct task *task)
{
	struct place place = api_enter();
	bool here = task && runs_here(place.thread, task);
	if (here && place.thread)
		task_leave_api(place.thread, task);
	else if (here)
		api_bare_leave(task);
	api_leave(place);
	return here ? 0 : -EINVAL;
}

static void end_guards(struct thread *thread, struct guard **list, const struct guard *last, const uintptr_t *fp)
{
	for (struct guard *guard = *list; guard; guard = *list) {
		*list = guard->outer;
		guard->open = false;
		own_end(thread, &guard->owner, fp);
		bool done = guard == last;
		store_give(&guards, guard);
		if (done)
			return;
	}
}

/* Inside the task, so that what it owns is born and dies in it, but not as a poll. */
static void enter_quietly(struct thread *thread, struct task *task)
{
	task->ending = true;
	task->outer = task_enter(thread, task);
	task->ending = false;
}

static void end_visit(struct thread *thread, struct task *task)
{
	task_leave_api(thread, task);
	atomic_store(&task->runs_on, 0);
}

/* FA704: what the task made in its polls and nobody freed or handed on. */
static void left_behind(struct thread *thread, const struct task *task, const uintptr_t *fp)
{
	int64_t blocks = atomic_load(&task->live_blocks), bytes = atomic_load(&task->live_bytes);
	if (blocks > 0)
		violation_count(thread, 704, node_of_call(thread, fp), (uint64_t)blocks, bytes > 0 ? (uint64_t)bytes : 0);
}

/* Neither the task nor a child of it runs on another thread. */
static bool is_ours(const struct thread *thread, const struct task *task)
{
	if ((thread ? atomic_load(&task->runs_on) != 0 : api_bare_runs(task)) && !runs_here(thread, task))
		return false;
	for (const struct task *child = task->children; child; child = child->younger)
		if (!is_ours(thread, child))
			return false;
	return true;
}

static int end_task(struct thread *thread, struct task *task, const uintptr_t *fp)
{
	bool locked = base_lock(&family_lock), ours = is_ours(thread, task);
	if (locked)
		base_unlock(&family_lock);
	if (!ours)
		return -EBUSY;
	while (task->children)
		if (end_task(thread, task->children, fp))
			return -EBUSY;
	if (!runs_here(thread, task)) {
		if (!(thread ? task_claim(thread, task) : api_bare_enter(task, false)))
			return -EBUSY;
		if (thread)
			enter_quietly(thread, task);
	}
	end_guards(thread, &task->guards, NULL, fp);
	own_end(thread, &task->owned, fp);
	leave_family(task);
	if (!thread) {
		bool spare = task->id == UINT32_MAX; /* else of the table: the parent's, or ended in a thread's last moments */
		api_bare_leave(task);
		api_bare_ended();
		task->id = 0;
		if (spare)
			store_give(&spare_tasks, task);
		return 0;
	}
	task_leave_api(thread, task);
	left_behind(thread, task, fp);
	task_end(thread, task);
	return 0;
}

int api_task_end(struct task *task, const uintptr_t *fp)
{
	if (!task || !task->id)
		return -EINVAL;
	struct place place = api_enter();
	int error = end_task(place.thread, task, fp);
	api_leave(place);
	return error;
}

void *api_task_alloc(struct task *task, size_t size, const uintptr_t *fp)
{
	if (!task || !task->id) {
		errno = EINVAL;
		return NULL;
	}
	struct place place = api_enter();
	struct thread *thread = place.thread;
	/* From outside its polls the block is the task's all the same, unless the task runs on another thread. */
	bool visits = thread && thread->task != task && !runs_here(thread, task) && task_visit(thread, task);
	if (visits)
		enter_quietly(thread, task);
	void *pointer = api_owned(thread, &task->owned, api_make(thread, TRACE_TIER_POOL, size, fp));
	if (pointer && thread && thread->task != task)
		api_handed_on(thread, pointer, NULL);
	if (visits)
		end_visit(thread, task);
	api_leave(place);
	return pointer;
}

int api_task_release(struct task *task, void *pointer, const uintptr_t *fp)
{
	if (!task || !pointer)
		return -EINVAL;
	struct place place = api_enter();
	bool done = own_hand_out(&task->owned, pointer);
	if (done) {
		api_leave_frame(block_of(pointer));
		api_handed_on(place.thread, pointer, task);
	} else
		api_misused(place.thread, api_is_live(pointer) ? block_of(pointer) : NULL, fp);
	api_leave(place);
	return done ? 0 : -EINVAL;
}

struct guard *api_guard_begin(const uintptr_t *fp)
{
	(void)fp;
	struct place place = api_enter();
	struct guard *guard = store_take(&guards);
	if (guard) {
		guard->owner.is_guard = true;
		guard->open = true;
		guard->task = api_present_task(place.thread);
		guard->thread = guard->task ? NULL : place.thread;
		guard->outer = *api_open_guards(place.thread);
		*api_open_guards(place.thread) = guard;
	} else {
		errno = ENOMEM;
	}
	api_leave(place);
	return guard;
}

/* The list that holds the guard, when it may be ended from here. */
static struct guard **list_of(struct thread *thread, const struct guard *guard)
{
	struct guard **list = guard->task ? &guard->task->guards : thread ? &thread->guards : &api_bare.guards;
	if (!guard->task && guard->thread != thread)
		return NULL;
	for (const struct guard *open = *list; open; open = open->outer)
		if (open == guard)
			return list;
	return NULL;
}

int api_guard_end(struct guard *guard, const uintptr_t *fp)
{
	struct place place = api_enter();
	struct guard **list = guard && guard->open ? list_of(place.thread, guard) : NULL;
	/* The parent of a fork had opened it: the list that it stood in is not there. */
	struct guard *alone = guard;
	if (!list && guard && guard->open && !place.thread && operation_phase() == RUNTIME_UNRECORDED) {
		guard->outer = NULL;
		list = &alone;
	}
	bool in_order = list && *list == guard;
	if (!in_order && guard)
		api_misused(place.thread, NULL, fp);
	if (list)
		end_guards(place.thread, list, guard, fp);
	api_leave(place);
	return in_order ? 0 : -EINVAL;
}

int api_guard_release(struct guard *guard, void *pointer, const uintptr_t *fp)
{
	if (!guard || !pointer)
		return -EINVAL;
	struct place place = api_enter();
	bool done = guard->open && own_hand_out(&guard->owner, pointer);
	if (done)
		api_handed_on(place.thread, pointer, NULL);
	else
		api_misused(place.thread, api_is_live(pointer) ? block_of(pointer) : NULL, fp);
	api_leave(place);
	return done ? 0 : -EINVAL;
}
