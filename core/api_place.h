/*
 * What the files of the API share (api_blocks.c, api_tasks.c, api.c): where a call takes place, blocks with owners.
 */
#ifndef FA_API_PLACE_H
#define FA_API_PLACE_H

#include <errno.h>

#include "core/alloc.h"
#include "core/api.h"
#include "core/operation.h"
#include "core/own.h"
#include "core/task.h"

struct guard {
	struct attach_owner owner;
	struct guard *outer;
	struct task *task; /* that it was opened in; NULL: in none */
	struct thread *thread; /* that it was opened on, when in no task; NULL: one that records nothing */
	uint32_t forks; /* base_forks() there */
	bool open;
};

/* A thread's state where nothing is recorded: api_bare.c. */
struct api_bare {
	uint32_t frames, awaits, tags;
	uint32_t paused_by; /* as in struct thread */
	enum trace_role role;
	struct attach_owner frame; /* owns the open frame's blocks */
	struct guard *guards;
	struct task *task;
};
extern __thread struct api_bare api_bare __attribute__((tls_model("initial-exec")));

void api_bare_frame_begin(void);
void api_bare_frame_end(const uintptr_t *fp);
void api_bare_await_begin(void);
void api_bare_await_end(void);
int api_bare_tag_push(void);
int api_bare_tag_pop(void);
bool api_bare_runs(const struct task *task); /* anywhere */
bool api_bare_enter(struct task *task, bool polls);
void api_bare_leave(const struct task *last);
void api_bare_begun(void);
void api_bare_ended(void);
void api_bare_totals(struct api_stats *stats);

extern _Atomic uint64_t api_misuses, api_frames_begun;

/* The calling thread with its gate closed, `place.thread` NULL where nothing is recorded, as in a signal handler inside an
   operation of its thread. */
static always_inline struct place api_enter(void)
{
	struct place place = {thread_self, false, false};
	if (unlikely(place.thread->gate != THREAD_READY))
		place = operation_place();
	if (place.nested || place.late) {
		operation_leave(place);
		place = (struct place){NULL, false, false};
	}
	if (place.thread)
		thread_busy(place.thread);
	return place;
}

static always_inline void api_leave(struct place place)
{
	if (place.thread)
		thread_idle(place.thread);
}

static inline void api_misused(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	atomic_fetch_add(&api_misuses, 1);
	if (thread)
		own_misused(thread, block, fp);
}

static inline bool api_is_live(const void *pointer)
{
	return operation_has_header(pointer) && block_is_live(block_of(pointer));
}

static inline enum trace_tier api_tier_of(const struct block *block)
{
	return block_account(block_tag(block));
}

/* A block that the API was asked for, counted; NULL and ENOMEM. api_blocks.c. */
void *api_make(struct thread *thread, enum trace_tier tier, size_t size, const uintptr_t *fp);
/* Gives a fresh block (or NULL) to its owner; where that can't be noted, there is no block. */
void *api_owned(struct thread *thread, struct attach_owner *owner, void *pointer);

/* The task in whose polls the block was made does not leave it behind: FA704. `owner` (may be NULL) is that task when the
   block is too old to tell. api_blocks.c. */
void api_handed_on(struct thread *thread, void *pointer, struct task *owner);

/* A block that its owner gives away is no frame memory any more. api_blocks.c. */
void api_leave_frame(struct block *block);

/* Innermost of the tasks that run here. */
static inline struct task *api_present_task(const struct thread *thread)
{
	return thread ? thread->task : api_bare.task;
}

/* Lists of guards: a task's are ended anywhere. */
extern struct base_lock api_guards_lock;

/* Innermost guard of the running task, or else of the thread. */
static inline struct guard **api_open_guards(struct thread *thread)
{
	struct task *task = api_present_task(thread);
	return task ? &task->guards : thread ? &thread->guards : &api_bare.guards;
}

#endif
