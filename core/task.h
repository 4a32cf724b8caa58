/*
 * Tasks: work that is done in pieces, on any thread. Each piece (a poll, a coroutine's resumption, fa_task_enter to
 * fa_task_leave) runs from task_enter to task_leave on one thread and is a segment; its end is the await.
 *
 * Glossary
 *   type     tasks of one kind: polled by one function, with one entry function, of one name (struct trace_task_type)
 *   key      what the program knows a task by: the poll function's first argument; 0: nothing
 *   id       index in the table of tasks and a generation: names one task until the table has been used up 4,096 times.
 *            Segments carry it, so that a block tells its task, and whether that goes on.
 *
 * Tasks nest on a thread: one that is polled inside another's poll suspends that one's accounts, not its poll. A runtime
 * may let the next poll begin on another thread when the last one is about to return: the later one has the task, and
 * what the earlier one does until its return is little enough to be taken for either's.
 */
#ifndef FA_TASK_H
#define FA_TASK_H

#include "core/attach.h"
#include "core/thread.h"

#define TASK_INDEX_BITS 20
#define TASKS_MAX (1u << TASK_INDEX_BITS)
#define TASK_VISITED (1u << 31) /* in runs_on: no poll, but a call of the API that is over in a moment */

struct task {
	uintptr_t key; /* of a spare record: the next */
	uint32_t id; /* 0: not in use */
	uint32_t awaits; /* polls begun, and awaits inside them */
	struct task *outer; /* of the API: that runs around it on the same stack. Of a free place: the next */
	_Atomic uint32_t runs_on; /* thread record + 1, of the poll that began last; 0: suspended. TASK_VISITED */
	uint32_t type; /* of trace_task_types */
	_Atomic bool ended; /* its poll goes on for a moment yet */
	bool of_api;
	bool inherited; /* begun in the parent of this process: in no count of this recording */
	bool ending; /* inside the function that ends it: what it does is no poll */
	uint64_t polls;
	_Atomic int64_t live_blocks, live_bytes; /* of those made in its polls and not handed on; usable */
	int64_t bytes_peak;
	uint64_t begin_ns;
	struct attach_owner owned; /* blocks of the API */
	struct guard *guards; /* of the API, innermost; suspended with the task */
	struct task *parent, *children, *elder, *younger; /* of the API; under its lock */
};

/* A type of tasks; found again by its function, or by its name when there is none. Never fails: 0 stands for the
   rest, of the API the last type. */
struct task_type {
	enum trace_task_kind kind;
	uintptr_t function; /* 0: none */
	const char *name;
};
uint32_t task_type_of(const struct task_type *type);

/* A new task; `key` may be 0. Where `key` is the start of a live block, the task ends with that block. NULL: no room. */
struct task *task_begin(struct thread *thread, uint32_t type, uintptr_t key);

/* The task known by `key`; one that begins now when there is none. */
struct task *task_of_key(struct thread *thread, uint32_t type, uintptr_t key);

/* Says that the task of that id runs on this thread from now on. 0; -EBUSY: it runs already; -EINVAL: it has ended. */
int task_claim(struct thread *thread, struct task *task, uint32_t id);
bool task_visit(struct thread *thread, struct task *task); /* false: it runs. Ends with runs_on = 0, after task_leave */
/* Takes the task from a thread that is about to return from its poll; false only inside a poll of it on this thread. */
static always_inline bool task_claim_marked(struct thread *thread, struct task *task)
{
	if (unlikely(atomic_load_explicit(&task->runs_on, memory_order_relaxed) == thread->record_index + 1))
		return false;
	atomic_store_explicit(&task->runs_on, thread->record_index + 1, memory_order_relaxed);
	return true;
}

/* One piece of work of a claimed task begins and ends; strictly nested on a thread. enter returns the task that ran
   before, which leave wants back. Two segments, and twice the sums of the thread's totals. General registers only. */
struct task *task_enter(struct thread *thread, struct task *task);
void task_leave(struct thread *thread, struct task *outer);

/* Leaves what the API entered inside the poll or the thread that ends, or (`last`, of the API) up to that task. */
void task_leave_api(struct thread *thread, const struct task *last);

/* The task is over: at once, or when the poll that runs ends. The second is for a poll on this thread that ends next. */
void task_end(struct thread *thread, struct task *task);
static inline void task_ends_with_poll(struct task *task)
{
	atomic_store(&task->ended, true);
}
/* As told by an attachment: nothing when the task has ended otherwise meanwhile. */
void task_end_named(struct thread *thread, struct task *task, uint32_t id);

/* The task of an id, as long as it has not ended. */
struct task *task_of_id(uint32_t id);

/* What the thread did since the last call belongs to the present task. Where tasks change, and at frame ends. */
void task_account(struct thread *thread);

/* The counts of this thread's slot for a type. Never NULL. The second makes them, at first use. */
struct trace_task_count *task_count(struct thread *thread, uint32_t type);
void task_make_count(struct thread *thread, uint32_t type);

/* Whether `id` goes on; a block of it that died in another segment is none of its live ones any more. */
bool task_block_died(struct thread *thread, uint32_t id, const struct block *block);
/* One made in its polls is the task's no longer, though it lives. On a busy thread. */
void task_hand_on(struct thread *thread, struct task *task, const struct block *block);
/* Such a one dies next on this thread, which is busy: nobody's count of live blocks changes by that. */
void task_handed_dies(struct thread *thread, const struct block *block);

/* Type 0, for the rest. */
void task_begin_recording(void);
/* Sums over all types of a kind and all slots. */
void task_totals(enum trace_task_kind kind, uint64_t *started, uint64_t *ended, uint64_t *polls);

/* At the end: what tasks that have not ended came to, into their types' records. */
void task_finish(void);
void task_child(void);

#endif
