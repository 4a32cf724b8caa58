/* Each call finds a place as malloc does (operation.h) and works with the thread's gate closed. Without a place (the
   child of a fork that records nothing) blocks come and go unaccounted, owners free them all the same. */
#define _GNU_SOURCE
#include "core/api.h"

#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "core/automatic.h"
#include "core/marker.h"
#include "core/operation.h"
#include "core/own.h"
#include "core/policy.h"
#include "core/scope.h"
#include "core/site.h"
#include "core/store.h"
#include "core/tag.h"
#include "core/task.h"
#include "core/violation.h"

struct guard {
	struct attach_owner owner;
	struct guard *outer;
	struct task *task;     /* that it was opened in; NULL: in none */
	struct thread *thread; /* that it was opened on, when in no task */
	bool open;
};

static struct store guards = {.record_bytes = 64};
static_assert(sizeof(struct guard) <= 64, "record of the store");

static struct store spare_tasks = {.record_bytes = 192}; /* of processes that record nothing */
static_assert(sizeof(struct task) <= 192, "record of the store");
static struct base_lock family_lock; /* parents and children of tasks */

static _Atomic uint64_t frames_begun, misuses;

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* The calling thread with its gate closed, `place.thread` NULL where nothing is recorded. A signal handler inside an
   operation of its thread is refused. */
static struct place enter(void)
{
	struct place place = {thread_self, false, false};
	if (unlikely(place.thread->gate != THREAD_READY))
		place = operation_place();
	if (place.nested || place.late) {
		if (place.late)
			thread_late_leave();
		place.thread = NULL;
	}
	if (place.thread)
		thread_busy(place.thread);
	return place;
}

static void leave(struct place place)
{
	if (place.thread)
		thread_idle(place.thread);
}

static void misused(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	atomic_fetch_add(&misuses, 1);
	if (thread)
		own_misused(thread, block, fp);
}

static bool is_live(const void *pointer)
{
	return operation_has_header(pointer) && block_is_live(block_of(pointer));
}

static enum trace_tier tier_of(const struct block *block)
{
	return (enum trace_tier)(block_tag(block) >> 2 & 3);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void *make(struct thread *thread, enum trace_tier tier, size_t size, const uintptr_t *fp)
{
	void *pointer = thread ? alloc_asked(thread, tier, size, fp) : alloc_new(size, 0, false, fp);
	if (pointer)
		own_count_alloc(block_of(pointer));
	else
		errno = ENOMEM;
	return pointer;
}

/* Gives a fresh block to its owner; where that can't be noted, there is no block. */
static void *owned(struct thread *thread, struct attach_owner *owner, void *pointer)
{
	if (!pointer || own_add(owner, pointer))
		return pointer;
	own_release(thread, block_of(pointer), NULL);
	errno = ENOMEM;
	return NULL;
}

/* What was asked for as frame memory and came from elsewhere stays what it was called. */
static void make_frame_memory(struct block *block)
{
	own_count_free(block);
	block->state &= ~((uint64_t)BLOCK_HANDED << BLOCK_TAG_SHIFT);
	own_count_alloc(block);
}

static struct guard **open_guards(struct thread *thread)
{
	return thread->task ? &thread->task->guards : &thread->guards;
}

/* Frame memory is the frame's, where it is what it was asked for; in a task it is the task's. */
static void *make_frame(struct thread *thread, size_t size, const uintptr_t *fp)
{
	void *pointer = make(thread, TRACE_TIER_FRAME, size, fp);
	if (!pointer || !thread)
		return pointer;
	if (thread->task || thread->role == TRACE_ROLE_ASYNC || !thread->in_frame)
		atomic_fetch_add(&misuses, 1);
	if (thread->task)
		return owned(thread, &thread->task->owned, pointer);
	if (thread->in_frame && !own_add_to_frame(thread, pointer)) {
		own_release(thread, block_of(pointer), NULL);
		errno = ENOMEM;
		return NULL;
	}
	return pointer;
}

void *api_alloc(enum trace_tier tier, size_t size, const uintptr_t *fp)
{
	struct place place = enter();
	struct thread *thread = place.thread;
	void *pointer;
	if (tier == TRACE_TIER_FRAME) {
		pointer = make_frame(thread, size, fp);
	} else {
		pointer = make(thread, tier, size, fp);
		if (tier == TRACE_TIER_POOL && thread && *open_guards(thread))
			pointer = owned(thread, &(*open_guards(thread))->owner, pointer);
	}
	leave(place);
	return pointer;
}

/* Frame memory that was released with its frame already: FA601, and nothing else happens. */
static bool ended_with_frame(struct thread *thread, void *pointer, const uintptr_t *fp)
{
	if (!operation_has_header(pointer) || !block_is_dead(block_of(pointer)))
		return false;
	const struct block *block = block_of(pointer);
	uint32_t wanted = BLOCK_ASKED | BLOCK_SPECIAL | BLOCK_IN_SCOPE;
	if ((block_tag(block) & (wanted | BLOCK_HANDED | BLOCK_UNCOUNTED)) != wanted)
		return false;
	if (thread)
		own_escaped(thread, block, fp);
	return true;
}

void api_free(void *pointer, const uintptr_t *fp)
{
	if (!pointer)
		return;
	struct place place = enter();
	bool told = ended_with_frame(place.thread, pointer, fp), live = is_live(pointer);
	struct attachment attached;
	if (live) {
		if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached) && ((struct attach_owner *)attached.object)->is_guard)
			atomic_fetch_add(&misuses, 1);
		own_count_free(block_of(pointer));
	}
	leave(place);
	if (!told)
		alloc_free(pointer, fp);
}

/* Another block for one that is resized: of the same kind and tier, still without its owner. */
static void *remake(struct thread *thread, struct block *block, size_t size, const uintptr_t *fp)
{
	bool frame_memory = own_is_frame_memory(block);
	bool of_frame = frame_memory && thread && thread->in_frame && !thread->task && block_tag(block) & BLOCK_SPECIAL;
	void *pointer = of_frame ? make(thread, TRACE_TIER_FRAME, size, fp)
	                         : make(thread, tier_of(block) == TRACE_TIER_HEAP ? TRACE_TIER_HEAP : TRACE_TIER_POOL, size, fp);
	if (pointer && of_frame && !own_add_to_frame(thread, pointer)) {
		own_release(thread, block_of(pointer), NULL);
		errno = ENOMEM;
		return NULL;
	}
	if (pointer && frame_memory && !of_frame)
		make_frame_memory(block_of(pointer));
	return pointer;
}

void *api_realloc(void *pointer, size_t size, const uintptr_t *fp)
{
	if (!pointer)
		return api_alloc(TRACE_TIER_HEAP, size, fp);
	if (!is_live(pointer)) {
		api_free(pointer, fp);
		errno = EINVAL;
		return NULL;
	}
	struct place place = enter();
	struct thread *thread = place.thread;
	struct block *block = block_of(pointer);
	struct attachment attached = {0};
	bool is_owned = attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached);
	void *moved = remake(thread, block, size, fp);
	if (moved && is_owned)
		moved = owned(thread, attached.object, moved);
	if (moved) {
		size_t kept = block_size(block) < size ? block_size(block) : size;
		memcpy(moved, pointer, kept);
		if (is_owned)
			own_hand_out(attached.object, pointer);
		own_release(thread, block, fp);
	}
	leave(place);
	return moved;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static uint32_t frame_marker(void)
{
	static struct base_lock lock;
	static struct binding binding;
	if (!binding.record && base_lock(&lock)) {
		binding.described = (struct trace_marker){
		        .kind = TRACE_MARKER_FRAME, .binding = TRACE_BINDING_API, .module = TRACE_NO_MODULE, .name = "fa_frame_begin"};
		marker_record(&binding);
		base_unlock(&lock);
	}
	if (binding.record)
		trace_add(&binding.record->calls, 1);
	return binding.index;
}

void api_frame_begin(const uintptr_t *fp)
{
	struct place place = enter();
	struct thread *thread = place.thread;
	if (thread && !thread->api_frames++) {
		automatic_stop();
		if (thread->role == TRACE_ROLE_NONE)
			thread_set_role(thread, TRACE_ROLE_FRAME);
		scope_frame_boundary(thread, frame_marker(), fp);
		atomic_fetch_add(&frames_begun, 1);
	}
	leave(place);
}

void api_frame_end(const uintptr_t *fp)
{
	(void)fp;
	struct place place = enter();
	struct thread *thread = place.thread;
	if (thread && thread->api_frames && !--thread->api_frames)
		scope_frame_end(thread);
	leave(place);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

static struct task *unrecorded_task(void)
{
	struct task *task = store_take(&spare_tasks);
	if (task)
		task->id = UINT32_MAX;
	return task;
}

struct task *api_task_new(struct task *parent, const char *name, const uintptr_t *fp)
{
	(void)fp;
	struct place place = enter();
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
	leave(place);
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

int api_task_enter(struct task *task)
{
	if (!task || !task->id)
		return -EINVAL;
	struct place place = enter();
	bool entered = place.thread && task_claim(place.thread, task);
	if (entered)
		task->outer = task_enter(place.thread, task);
	leave(place);
	return entered || !place.thread ? 0 : -EBUSY;
}

/* Whether the task can be left here: nothing but tasks of the API runs inside it. */
static bool runs_here(const struct thread *thread, const struct task *task)
{
	for (const struct task *inner = thread->task; inner && inner->of_api; inner = inner->outer)
		if (inner == task)
			return true;
	return false;
}

int api_task_leave(struct task *task)
{
	struct place place = enter();
	bool here = !place.thread || (task && runs_here(place.thread, task));
	if (here && place.thread)
		task_leave_api(place.thread, task);
	leave(place);
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

/* Inside the task, so that what it owns dies in it, but not as a poll. */
static bool enter_quietly(struct thread *thread, struct task *task)
{
	if (!thread)
		return true;
	if (!task_claim(thread, task))
		return false;
	task->ending = true;
	task->outer = task_enter(thread, task);
	task->ending = false;
	return true;
}

/* FA704: what the task made in its polls and nobody freed or handed on. */
static void left_behind(struct thread *thread, const struct task *task, const uintptr_t *fp)
{
	int64_t blocks = atomic_load(&task->live_blocks) - atomic_load(&task->handed), bytes = atomic_load(&task->live_bytes);
	if (blocks > 0)
		violation_count(thread, 704, site_node_of_call(thread, fp), (uint64_t)blocks, bytes > 0 ? (uint64_t)bytes : 0);
}

/* Neither the task nor a child of it runs on another thread. */
static bool is_ours(const struct thread *thread, const struct task *task)
{
	if (thread && atomic_load(&task->runs_on) && !runs_here(thread, task))
		return false;
	for (const struct task *child = task->children; child; child = child->younger)
		if (!is_ours(thread, child))
			return false;
	return true;
}

static int end_task(struct thread *thread, struct task *task, const uintptr_t *fp)
{
	if (!is_ours(thread, task))
		return -EBUSY;
	while (task->children)
		if (end_task(thread, task->children, fp))
			return -EBUSY;
	if (!(thread && runs_here(thread, task)) && !enter_quietly(thread, task))
		return -EBUSY;
	end_guards(thread, &task->guards, NULL, fp);
	own_end(thread, &task->owned, fp);
	leave_family(task);
	if (!thread) {
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
	struct place place = enter();
	int error = end_task(place.thread, task, fp);
	leave(place);
	return error;
}

void *api_task_alloc(struct task *task, size_t size, const uintptr_t *fp)
{
	if (!task || !task->id) {
		errno = EINVAL;
		return NULL;
	}
	struct place place = enter();
	struct thread *thread = place.thread;
	/* From outside its polls the block is the task's all the same, unless the task runs on another thread. */
	bool visits = thread && thread->task != task && !runs_here(thread, task) && enter_quietly(thread, task);
	void *pointer = owned(thread, &task->owned, make(thread, TRACE_TIER_POOL, size, fp));
	if (visits)
		task_leave_api(thread, task);
	leave(place);
	return pointer;
}

int api_task_release(struct task *task, void *pointer, const uintptr_t *fp)
{
	if (!task || !pointer)
		return -EINVAL;
	struct place place = enter();
	bool done = own_hand_out(&task->owned, pointer);
	if (done && place.thread && attach_add((uintptr_t)pointer, ATTACH_HANDED, task, task->id))
		atomic_fetch_add(&task->handed, 1);
	else if (!done)
		misused(place.thread, is_live(pointer) ? block_of(pointer) : NULL, fp);
	leave(place);
	return done ? 0 : -EINVAL;
}

/* ---- guards ------------------------------------------------------------------------------------------------------ */

struct guard *api_guard_begin(const uintptr_t *fp)
{
	(void)fp;
	struct place place = enter();
	struct guard *guard = place.thread ? store_take(&guards) : NULL;
	if (guard) {
		guard->owner.is_guard = true;
		guard->open = true;
		guard->task = place.thread->task;
		guard->thread = guard->task ? NULL : place.thread;
		guard->outer = *open_guards(place.thread);
		*open_guards(place.thread) = guard;
	} else {
		errno = ENOMEM;
	}
	leave(place);
	return guard;
}

/* The list that holds the guard, when it may be ended from here. */
static struct guard **list_of(struct thread *thread, const struct guard *guard)
{
	struct guard **list = guard->task ? &guard->task->guards : &thread->guards;
	if (!guard->task && guard->thread != thread)
		return NULL;
	for (const struct guard *open = *list; open; open = open->outer)
		if (open == guard)
			return list;
	return NULL;
}

int api_guard_end(struct guard *guard, const uintptr_t *fp)
{
	struct place place = enter();
	struct guard **list = guard && place.thread && guard->open ? list_of(place.thread, guard) : NULL;
	bool in_order = list && *list == guard;
	if (!in_order && guard && place.thread)
		misused(place.thread, NULL, fp);
	if (list)
		end_guards(place.thread, list, guard, fp);
	leave(place);
	return in_order ? 0 : -EINVAL;
}

int api_guard_release(struct guard *guard, void *pointer, const uintptr_t *fp)
{
	if (!guard || !pointer)
		return -EINVAL;
	struct place place = enter();
	bool done = guard->open && own_hand_out(&guard->owner, pointer);
	if (!done)
		misused(place.thread, is_live(pointer) ? block_of(pointer) : NULL, fp);
	leave(place);
	return done ? 0 : -EINVAL;
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

void api_await_begin(void)
{
	struct place place = enter();
	if (place.thread) {
		scope_await(place.thread);
		if (!place.thread->task && !place.thread->api_awaits++)
			scope_pause(place.thread);
	}
	leave(place);
}

void api_await_end(void)
{
	struct place place = enter();
	struct thread *thread = place.thread;
	if (thread && !thread->task && thread->api_awaits && !--thread->api_awaits)
		scope_resume(thread);
	else if (thread)
		thread_new_segment(thread);
	leave(place);
}

int api_transfer(void *pointer)
{
	struct attachment attached;
	if (!pointer || !is_live(pointer))
		return -EINVAL;
	struct place place = enter();
	struct block *block = block_of(pointer);
	if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached))
		own_hand_out(attached.object, pointer);
	own_count_free(block);
	/* Without BLOCK_SPECIAL its frame passes it over. */
	if (own_is_frame_memory(block))
		block->state &= ~((uint64_t)BLOCK_SPECIAL << BLOCK_TAG_SHIFT);
	alloc_hand_over(pointer);
	own_count_alloc(block);
	leave(place);
	return 0;
}

void *api_promote(void *pointer, enum trace_tier tier, const uintptr_t *fp)
{
	if (!pointer || tier == TRACE_TIER_FRAME || !is_live(pointer)) {
		errno = EINVAL;
		return NULL;
	}
	struct place place = enter();
	struct block *block = block_of(pointer);
	struct attachment attached;
	void *moved = make(place.thread, tier, block_size(block), fp);
	if (moved) {
		memcpy(moved, pointer, block_size(block));
		if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached))
			own_hand_out(attached.object, pointer);
		own_release(place.thread, block, fp);
	}
	leave(place);
	return moved;
}

int api_tag_push(const char *name)
{
	struct place place = enter();
	struct thread *thread = place.thread;
	int error = 0;
	uint32_t tag = name && name[0] ? tag_named(name) : 0;
	if (!tag)
		error = name && name[0] ? -ENOSPC : -EINVAL;
	else if (thread && thread->tag_depth == THREAD_TAGS_MAX)
		error = -EOVERFLOW;
	else if (thread) {
		thread->tag_stack[thread->tag_depth++] = (uint8_t)thread->tag;
		scope_tag(thread, tag);
	}
	leave(place);
	return error;
}

int api_tag_pop(void)
{
	struct place place = enter();
	struct thread *thread = place.thread;
	bool open = !thread || thread->tag_depth;
	if (thread && open)
		scope_tag(thread, thread->tag_stack[--thread->tag_depth]);
	leave(place);
	return open ? 0 : -EINVAL;
}

int api_thread_role(enum trace_role role)
{
	if ((unsigned)role > TRACE_ROLE_IO)
		return -EINVAL;
	struct place place = enter();
	if (place.thread)
		thread_set_role(place.thread, role);
	leave(place);
	return 0;
}

int api_budget_set(const char *name, uint64_t bytes)
{
	struct place place = enter();
	uint32_t tag = name ? tag_named(name) : 0;
	int error = name && !tag ? -ENOSPC : 0;
	if (!name)
		scope_budget_set(bytes);
	else if (tag && place.thread)
		((struct trace_tag *)trace_at(&trace_tags, tag))->budget_bytes = bytes;
	leave(place);
	return error;
}

static struct api_block_stats get_stats(struct own_stats *stats)
{
	struct api_block_stats out = {atomic_load(&stats->allocs), atomic_load(&stats->frees), atomic_load(&stats->bytes), 0, 0};
	out.live_blocks = out.allocs - out.frees;
	out.live_bytes = out.bytes - atomic_load(&stats->freed_bytes);
	return out;
}

void api_stats_get(struct api_stats *out)
{
	*out = (struct api_stats){.frames = atomic_load(&frames_begun), .misuse = atomic_load(&misuses)};
	out->frame = get_stats(&own_frame_stats);
	out->other = get_stats(&own_other_stats);
	task_totals(TRACE_TASK_API, &out->tasks_started, &out->tasks_ended, &out->polls);
}
