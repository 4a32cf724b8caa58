/* A task's poll begins or ends. Inside a patched function: general registers only. */
#include "core/mark/mark.h"
#include "core/scope.h"
#include "core/task.h"

/* Frees that were not of blocks of their own segment have been told of one by one (death.c); what remains were births
   and clean deaths of the task's own. Nothing born and nothing dead: nothing to account for. */
void task_account(struct thread *thread)
{
	const struct trace_thread *record = thread->record;
	struct trace_sums sums = trace_thread_sums(record);
	struct thread_totals was = thread->at_task, now = {.allocs = sums.allocs, .frees = sums.frees};
	struct task *task = thread->task;
	if (now.allocs == was.allocs && now.frees == was.frees)
		return;
	now.bytes = sums.bytes;
	now.live_bytes = sums.live_bytes;
	now.other_deaths = thread->other_deaths;
	now.other_deaths_bytes = thread->other_deaths_bytes;
	thread->at_task = now;
	if (!task && !thread->frame_paused)
		return;
	int64_t blocks = (int64_t)(now.allocs - was.allocs) - (int64_t)(now.frees - was.frees) +
			 (int64_t)(now.other_deaths - was.other_deaths);
	int64_t bytes = now.live_bytes - was.live_bytes + (int64_t)(now.other_deaths_bytes - was.other_deaths_bytes);
	thread->other_blocks += blocks;
	if (!task)
		return;
	struct trace_task_count *count = task_count(thread, task->type);
	count->allocs += now.allocs - was.allocs;
	count->bytes += now.bytes - was.bytes;
	if (blocks)
		atomic_fetch_add_explicit(&task->live_blocks, blocks, memory_order_relaxed);
	if (!bytes)
		return;
	int64_t live = atomic_fetch_add_explicit(&task->live_bytes, bytes, memory_order_relaxed) + bytes;
	if (live > task->bytes_peak)
		task->bytes_peak = live;
}

bool task_visit(struct thread *thread, struct task *task)
{
	uint32_t idle = 0;
	return atomic_compare_exchange_strong(&task->runs_on, &idle, (thread->record_index + 1) | TASK_VISITED);
}

struct task *task_enter(struct thread *thread, struct task *task)
{
	struct task *outer = thread->task;
	task_account(thread);
	thread->task = task;
	task->awaits++;
	if (likely(!task->ending)) {
		task->polls++;
		task_count(thread, task->type)->polls++;
	}
	scope_settle(thread);
	thread_new_segment(thread);
	return outer;
}

static void finish(void *thread, void *task)
{
	task_end(thread, task);
}

void task_leave(struct thread *thread, struct task *outer)
{
	struct task *task = thread->task;
	task_account(thread);
	thread->task = outer;
	scope_settle(thread);
	thread_new_segment(thread);
	if (unlikely(atomic_load_explicit(&task->runs_on, memory_order_relaxed) != thread->record_index + 1))
		return;
	atomic_store_explicit(&task->runs_on, 0, memory_order_release);
	if (unlikely(atomic_load_explicit(&task->ended, memory_order_relaxed)))
		patch_guarded(finish, thread, task);
}

void task_leave_api(struct thread *thread, const struct task *last)
{
	while (thread->task && thread->task->of_api) {
		struct task *task = thread->task, *outer = task->outer;
		task->outer = NULL;
		task_leave(thread, outer);
		if (task == last)
			return;
	}
}

static void make_count(void *thread, void *type)
{
	task_make_count(thread, (uint32_t)(uintptr_t)type);
}

struct trace_task_count *task_count(struct thread *thread, uint32_t type)
{
	if (unlikely(!thread->task_counts[type]))
		patch_guarded(make_count, thread, (void *)(uintptr_t)type);
	return thread->task_counts[type];
}
