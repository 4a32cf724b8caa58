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

struct base_lock api_guards_lock;

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
	if (parent && !parent->id) {
		errno = EINVAL;
		return NULL;
	}
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
static int claim(struct thread *thread, struct task *task, uint32_t id)
{
	for (unsigned turn = 0;; turn++) {
		int error = task_claim(thread, task, id);
		uint32_t runner = atomic_load(&task->runs_on);
		if (error != -EBUSY || (runner && !(runner & TASK_VISITED)))
			return error;
		base_wait(turn);
	}
}

int api_task_enter(struct task *task)
{
	uint32_t id = task ? task->id : 0;
	if (!id)
		return -EINVAL;
	struct place place = api_enter();
	int error = place.thread ? claim(place.thread, task, id) : api_bare_enter(task, true) ? 0 : -EBUSY;
	if (!error && place.thread)
		task->outer = task_enter(place.thread, task);
	api_leave(place);
	return error;
}

/* Whether the task can be left here: nothing but tasks of the API runs inside it. */
static bool runs_here(const struct thread *thread, const struct task *task)
{
	for (const struct task *inner = api_present_task(thread); inner && inner->of_api; inner = inner->outer)
		if (inner == task)
			return true;
	return false;
}

/* With what was entered inside it. False: it does not run here. */
static bool leave(struct thread *thread, const struct task *task)
{
	if (!runs_here(thread, task))
		return false;
	if (thread)
		task_leave_api(thread, task);
	else
		api_bare_leave(task);
	return true;
}

int api_task_leave(struct task *task)
{
	struct place place = api_enter();
	bool here = task && leave(place.thread, task);
	api_leave(place);
	return here ? 0 : -EINVAL;
}

/* Takes the innermost guards off their list, up to `last` (NULL: all). NULL: there is none, or `last` is not on it. They are
   chained by `outer`, up to *rest. */
static struct guard *take_guards(struct guard **list, const struct guard *last, struct guard **rest)
{
	*rest = NULL;
	if (!base_lock(&api_guards_lock))
		return NULL;
	const struct guard *open = *list;
	while (open && open != last)
		open = open->outer;
	struct guard *taken = last && !open ? NULL : *list;
	*rest = taken && last ? last->outer : NULL;
	if (taken)
		*list = *rest;
	for (struct guard *guard = taken; guard != *rest; guard = guard->outer)
		guard->open = false;
	base_unlock(&api_guards_lock);
	return taken;
}

static void end_guards(struct thread *thread, struct guard *taken, const struct guard *rest, const uintptr_t *fp)
{
	while (taken != rest) {
		fa_assert(taken);
		struct guard *outer = taken->outer;
		own_end(thread, &taken->owner, fp);
		store_give(&guards, taken);
		taken = outer;
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
		violation_count(thread, 704, node_of_call(thread, fp), (uint64_t)blocks,
				bytes > 0 ? (uint64_t)bytes : 0);
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

static int end_task(struct thread *thread, struct task *task, uint32_t id, const uintptr_t *fp);

static struct task *child_of(const struct task *task, uint32_t *id)
{
	bool locked = base_lock(&family_lock);
	struct task *child = task->children;
	*id = child ? child->id : 0;
	if (locked)
		base_unlock(&family_lock);
	return child;
}

/* So that it runs here, innermost, and nobody else ends it. */
static int enter_to_end(struct thread *thread, struct task *task, uint32_t id)
{
	if (runs_here(thread, task)) {
		while (api_present_task(thread) != task)
			leave(thread, api_present_task(thread));
		return 0;
	}
	if (!thread) {
		if (!api_bare_enter(task, false))
			return -EBUSY;
		if (task->id == id)
			return 0;
		api_bare_leave(task);
		return -EINVAL;
	}
	int error = task_claim(thread, task, id);
	if (!error)
		enter_quietly(thread, task);
	return error;
}

/* Each child is ended while its parent runs here; that may leave the parent, if the child was entered around it. */
static int end_children(struct thread *thread, struct task *task, uint32_t id, const uintptr_t *fp)
{
	uint32_t child_id;
	for (struct task *child; (child = child_of(task, &child_id));) {
		int error = child_id ? end_task(thread, child, child_id, fp) : -EBUSY;
		if (error) /* another thread is at it */
			return -EBUSY;
	}
	return enter_to_end(thread, task, id);
}

static int end_task(struct thread *thread, struct task *task, uint32_t id, const uintptr_t *fp)
{
	if (base_owns(&api_guards_lock)) /* a handler inside a call that has it */
		return -EBUSY;
	bool locked = base_lock(&family_lock), known = task->id == id, ours = known && is_ours(thread, task);
	if (locked)
		base_unlock(&family_lock);
	if (!ours)
		return known ? -EBUSY : -EINVAL;
	bool here = runs_here(thread, task);
	int error = enter_to_end(thread, task, id);
	if (!error)
		error = end_children(thread, task, id, fp);
	if (error) {
		if (!here)
			leave(thread, task);
		return error;
	}
	struct guard *rest, *taken = take_guards(&task->guards, NULL, &rest);
	end_guards(thread, taken, rest, fp);
	own_end(thread, &task->owned, fp);
	leave_family(task);
	if (!thread) {
		bool spare = task->id ==
			     UINT32_MAX; /* else of the table: the parent's, or ended in a thread's last moments */
		task->id = 0;
		api_bare_leave(task);
		api_bare_ended();
		if (spare)
			store_give(&spare_tasks, task);
		return 0;
	}
	task_account(thread);
	left_behind(thread, task, fp);
	task_ends_with_poll(task);
	task_leave_api(thread, task);
	return 0;
}

int api_task_end(struct task *task, const uintptr_t *fp)
{
	uint32_t id = task ? task->id : 0;
	if (!id)
		return -EINVAL;
	struct place place = api_enter();
	int error = end_task(place.thread, task, id, fp);
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
	if (guard && !base_lock(&api_guards_lock)) {
		store_give(&guards, guard);
		guard = NULL;
	}
	if (guard) {
		struct guard **list = api_open_guards(place.thread);
		guard->owner.is_guard = true;
		guard->open = true;
		guard->task = api_present_task(place.thread);
		guard->thread = guard->task ? NULL : place.thread;
		guard->forks = base_forks();
		guard->outer = *list;
		*list = guard;
		base_unlock(&api_guards_lock);
	} else {
		errno = ENOMEM;
	}
	api_leave(place);
	return guard;
}

/* The list that the guard is on, if it may be ended from here. */
static struct guard **list_of(struct thread *thread, const struct guard *guard)
{
	if (guard->task)
		return &guard->task->guards;
	return guard->thread != thread ? NULL : thread ? &thread->guards : &api_bare.guards;
}

int api_guard_end(struct guard *guard, const uintptr_t *fp)
{
	struct place place = api_enter();
	struct guard **list = guard && guard->open ? list_of(place.thread, guard) : NULL, *rest = NULL;
	struct guard *taken = list ? take_guards(list, guard, &rest) : NULL;
	/* The parent of a fork had opened it: the list that it stood in is not there. */
	if (!taken && guard && guard->open && guard->forks != base_forks() && !place.thread &&
	    operation_phase() == RUNTIME_UNRECORDED) {
		guard->open = false;
		guard->outer = NULL;
		taken = guard;
	}
	bool in_order = guard && taken == guard;
	if (!in_order && guard)
		api_misused(place.thread, NULL, fp);
	end_guards(place.thread, taken, rest, fp);
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
