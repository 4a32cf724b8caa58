/* The C API's way in: framealloc.h finds fa_shim_v1 by name and calls through the table it returns. */
#include "core/api.h"
#include "core/runtime.h"
#include "shim/hooks.h"
#define FA_NO_PLAIN
#include "shim/framealloc.h"

#define FP ((const uintptr_t *)__builtin_frame_address(0))

static void frame_begin(void)
{
	api_frame_begin(FP);
}

static void frame_end(void)
{
	api_frame_end(FP);
}

static void *alloc(fa_tier tier, size_t size)
{
	return api_alloc((enum trace_tier)tier, size, FP);
}

static void *resize(void *block, size_t size)
{
	return api_realloc(block, size, FP);
}

static void release(void *block)
{
	api_free(block, FP);
}

static fa_task *task_new(fa_task *parent, const char *type)
{
	return (fa_task *)api_task_new((struct task *)parent, type, FP);
}

static int task_enter(fa_task *task)
{
	return api_task_enter((struct task *)task);
}

static int task_leave(fa_task *task)
{
	return api_task_leave((struct task *)task);
}

static int task_end(fa_task *task)
{
	return api_task_end((struct task *)task, FP);
}

static void *task_alloc(fa_task *task, size_t size)
{
	return api_task_alloc((struct task *)task, size, FP);
}

static int task_release(fa_task *task, void *block)
{
	return api_task_release((struct task *)task, block, FP);
}

static fa_guard *guard_begin(void)
{
	return (fa_guard *)api_guard_begin(FP);
}

static int guard_end(fa_guard *guard)
{
	return api_guard_end((struct guard *)guard, FP);
}

static int guard_release(fa_guard *guard, void *block)
{
	return api_guard_release((struct guard *)guard, block, FP);
}

static void await_begin(void)
{
	api_await_begin(FP);
}

static void *promote(void *block, fa_tier tier)
{
	return api_promote(block, (enum trace_tier)tier, FP);
}

static int thread_role(fa_role role)
{
	return api_thread_role((enum trace_role)role);
}

static void stats(fa_stats_t *out)
{
	api_stats_get((struct api_stats *)out);
}
_Static_assert(sizeof(struct api_stats) == sizeof(fa_stats_t), "the same figures");

static const struct fa_shim calls = {
	.version = 1,
	.bytes = sizeof calls,
	.frame_begin = frame_begin,
	.frame_end = frame_end,
	.alloc = alloc,
	.realloc = resize,
	.free = release,
	.task_new = task_new,
	.task_enter = task_enter,
	.task_leave = task_leave,
	.task_end = task_end,
	.task_alloc = task_alloc,
	.task_release = task_release,
	.guard_begin = guard_begin,
	.guard_end = guard_end,
	.guard_release = guard_release,
	.await_begin = await_begin,
	.await_end = api_await_end,
	.transfer = api_transfer,
	.promote = promote,
	.tag_push = api_tag_push,
	.tag_pop = api_tag_pop,
	.thread_role = thread_role,
	.budget_set = api_budget_set,
	.stats = stats,
};

/* NULL where the program is passed through (mode=off, a child that is not followed): it gets plain malloc's behaviour. */
const struct fa_shim *fa_shim_v1(void);
EXPORT const struct fa_shim *fa_shim_v1(void)
{
	return runtime_current() == RUNTIME_RECORDING ? &calls : NULL;
}
