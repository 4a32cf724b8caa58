/*
 * The C API of framealloc.h on the shim's side: the same calls, with the frame of the hook for the call path. `fp` as
 * everywhere: the frame of a function that the program called. Errors are negative errno values.
 */
#ifndef FA_API_H
#define FA_API_H

#include "core/base.h"
#include "core/trace/format.h"

struct task;
struct guard;

struct api_block_stats {
	uint64_t allocs, frees, bytes, live_blocks, live_bytes; /* requested */
};

/* Of blocks that the API made. */
struct api_stats {
	struct api_block_stats frame, other;
	uint64_t frames, tasks_started, tasks_ended, polls, misuse;
};

/* In the child of a fork that records on its own: the parent's record went with its mapping. */
void api_child(void);

void api_frame_begin(const uintptr_t *fp);
void api_frame_end(const uintptr_t *fp);

/* NULL and ENOMEM. `tier` is the one that the call names. */
void *api_alloc(enum trace_tier tier, size_t size, const uintptr_t *fp);
void *api_realloc(void *pointer, size_t size, const uintptr_t *fp);
void api_free(void *pointer, const uintptr_t *fp);

struct task *api_task_new(struct task *parent, const char *type, const uintptr_t *fp);
int api_task_enter(struct task *task);
int api_task_leave(struct task *task);
int api_task_end(struct task *task, const uintptr_t *fp);
void *api_task_alloc(struct task *task, size_t size, const uintptr_t *fp);
int api_task_release(struct task *task, void *pointer, const uintptr_t *fp);

struct guard *api_guard_begin(const uintptr_t *fp);
int api_guard_end(struct guard *guard, const uintptr_t *fp);
int api_guard_release(struct guard *guard, void *pointer, const uintptr_t *fp);

void api_await_begin(const uintptr_t *fp);
void api_await_end(void);
int api_transfer(void *pointer);
void *api_promote(void *pointer, enum trace_tier tier, const uintptr_t *fp);
int api_tag_push(const char *name);
int api_tag_pop(void);
int api_thread_role(enum trace_role role);
int api_budget_set(const char *tag, uint64_t bytes);
void api_stats_get(struct api_stats *stats);

#endif
