/* The C API on the shim's side: frames, awaits, regions, roles, budgets. Each call finds a place as malloc does
   (operation.h) and works with the thread's gate closed. Without a place (the child of a fork that records nothing) blocks
   come and go unaccounted, and what is open stands in api_bare. */
#define _GNU_SOURCE
#include "core/api_place.h"
#include "core/automatic.h"
#include "core/marker.h"
#include "core/role.h"
#include "core/scope.h"
#include "core/tag.h"

static struct {
	struct base_lock lock;
	struct binding binding;
} frame_marker;

static uint32_t frame_marker_index(void)
{
	struct binding *binding = &frame_marker.binding;
	if (!binding->record && base_lock(&frame_marker.lock)) {
		binding->described = (struct trace_marker){.kind = TRACE_MARKER_FRAME,
							   .binding = TRACE_BINDING_API,
							   .module = TRACE_NO_MODULE,
							   .name = "fa_frame_begin"};
		marker_record(binding);
		base_unlock(&frame_marker.lock);
	}
	if (binding->record)
		trace_add(&binding->record->calls, 1);
	return binding->index;
}

void api_child(void)
{
	frame_marker.binding.record = NULL;
}

void api_frame_begin(const uintptr_t *fp)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	if (!thread) {
		api_bare_frame_begin();
	} else if (!thread->api_frames++) {
		automatic_stop();
		if (thread->role == TRACE_ROLE_NONE)
			role_set(thread, TRACE_ROLE_FRAME);
		thread->api_paused_by = 0;
		scope_frame_boundary(thread, frame_marker_index(), fp);
		atomic_fetch_add(&api_frames_begun, 1);
	}
	api_leave(place);
}

void api_frame_end(const uintptr_t *fp)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	if (!thread) {
		api_bare_frame_end(fp);
	} else if (thread->api_frames && !--thread->api_frames) {
		thread->api_paused_by = 0;
		scope_frame_end(thread);
	}
	api_leave(place);
}

/* The first await inside a frame pauses it; a frame that begins in an await is not paused by that one. */
static void begin_await(struct thread *thread)
{
	thread->api_awaits++;
	if (!thread->in_frame)
		return;
	thread->api_paused_by = thread->api_awaits;
	scope_pause(thread);
}

static void resume(struct thread *thread)
{
	thread->api_paused_by = 0;
	scope_resume(thread);
}

void api_await_begin(const uintptr_t *fp)
{
	struct place place = api_enter();
	if (place.thread) {
		if (!place.thread->task)
			scope_await_path(place.thread, fp);
		scope_await(place.thread);
		if (!place.thread->task)
			begin_await(place.thread);
	} else {
		api_bare_await_begin();
	}
	api_leave(place);
}

void api_await_end(void)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	if (thread && !thread->task && thread->api_awaits && thread->api_paused_by == thread->api_awaits--)
		resume(thread);
	else if (thread)
		thread_new_segment(thread);
	else
		api_bare_await_end();
	api_leave(place);
}

int api_tag_push(const char *name)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	int error = 0;
	bool named = name && name[0];
	uint32_t tag = named && thread ? tag_named(name) : 0;
	if (!named)
		error = -EINVAL;
	else if (!thread)
		error = api_bare_tag_push();
	else if (!tag)
		error = -ENOSPC;
	else if (thread->tag_depth == THREAD_TAGS_MAX)
		error = -EOVERFLOW;
	else {
		thread->tag_stack[thread->tag_depth++] = (uint8_t)thread->tag;
		scope_tag(thread, tag);
	}
	api_leave(place);
	return error;
}

int api_tag_pop(void)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	int error = !thread ? api_bare_tag_pop() : thread->tag_depth ? 0 : -EINVAL;
	if (thread && !error)
		scope_tag(thread, thread->tag_stack[--thread->tag_depth]);
	api_leave(place);
	return error;
}

int api_thread_role(enum trace_role role)
{
	if ((unsigned)role > TRACE_ROLE_IO)
		return -EINVAL;
	struct place place = api_enter();
	if (place.thread)
		role_set(place.thread, role);
	else
		api_bare.role = role;
	api_leave(place);
	return 0;
}

int api_budget_set(const char *name, uint64_t bytes)
{
	struct place place = api_enter();
	uint32_t tag = name && name[0] && place.thread ? tag_named(name) : 0;
	int error = !name || tag ? 0 : !name[0] ? -EINVAL : place.thread ? -ENOSPC : 0;
	if (!name)
		scope_budget_set(bytes);
	else if (tag && place.thread)
		((struct trace_tag *)trace_at(&trace_tags, tag))->budget_bytes = bytes;
	api_leave(place);
	return error;
}
