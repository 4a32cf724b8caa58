/* What a thread has open where nothing is recorded: in the child of a fork, in a thread's last moments, beyond the last
   slot. The same promises are kept there, without roles of threads in reports, call paths and findings. */
#define _GNU_SOURCE
#include "core/api_place.h"

#define BARE_RUNNER (1u << 30) /* in runs_on, with a thread's id; else it tells of a thread's record */

__thread struct api_bare api_bare __attribute__((tls_model("initial-exec")));

static struct {
	_Atomic uint64_t started, ended, polls;
} totals;

void api_bare_frame_begin(void)
{
	if (api_bare.frames++)
		return;
	api_bare.paused_by = 0;
	atomic_fetch_add(&api_frames_begun, 1);
}

void api_bare_frame_end(const uintptr_t *fp)
{
	if (!api_bare.frames || --api_bare.frames)
		return;
	api_bare.paused_by = 0;
	own_end(NULL, &api_bare.frame, fp);
}

void api_bare_await_begin(void)
{
	if (api_bare.task)
		return;
	api_bare.awaits++;
	if (api_bare.frames && !api_bare.paused_by)
		api_bare.paused_by = api_bare.awaits;
}

void api_bare_await_end(void)
{
	if (api_bare.task || !api_bare.awaits)
		return;
	if (api_bare.paused_by == api_bare.awaits--)
		api_bare.paused_by = 0;
}

int api_bare_tag_push(void)
{
	if (api_bare.tags == THREAD_TAGS_MAX)
		return -EOVERFLOW;
	api_bare.tags++;
	return 0;
}

int api_bare_tag_pop(void)
{
	if (!api_bare.tags)
		return -EINVAL;
	api_bare.tags--;
	return 0;
}

void api_bare_begun(void)
{
	atomic_fetch_add(&totals.started, 1);
}

void api_bare_ended(void)
{
	atomic_fetch_add(&totals.ended, 1);
}

void api_bare_totals(struct api_stats *stats)
{
	stats->tasks_started += atomic_load(&totals.started);
	stats->tasks_ended += atomic_load(&totals.ended);
	stats->polls += atomic_load(&totals.polls);
}

/* Threads with records are all the parent's in the child of a fork, and not there. */
bool api_bare_runs(const struct task *task)
{
	uint32_t runner = atomic_load(&task->runs_on);
	return runner & BARE_RUNNER || (runner && operation_phase() != RUNTIME_UNRECORDED);
}

bool api_bare_enter(struct task *task, bool polls)
{
	uint32_t runner = atomic_load(&task->runs_on);
	if (api_bare_runs(task) || !atomic_compare_exchange_strong(&task->runs_on, &runner, base_tid() | BARE_RUNNER))
		return false;
	task->outer = api_bare.task;
	api_bare.task = task;
	if (polls)
		atomic_fetch_add(&totals.polls, 1);
	return true;
}

void api_bare_leave(const struct task *last)
{
	while (api_bare.task) {
		struct task *task = api_bare.task;
		api_bare.task = task->outer;
		task->outer = NULL;
		atomic_store(&task->runs_on, 0);
		if (task == last)
			return;
	}
}
