/* Tasks' beginnings, ends and types. A task's place in the table is used again in the order in which tasks ended, so that
   an id is as long-lived as can be. */
#include "core/task.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/counter.h"
#include "core/node.h"
#include "core/segment.h"
#include "core/trace/writer.h"

#define CHUNK_TASKS 256u
#define KEPT_FREE 256u /* places that wait before one is used again */
#define INDEX_MASK (TASKS_MAX - 1)

static struct {
	struct base_lock lock;
	struct task *chunk[TASKS_MAX / CHUNK_TASKS];
	uint32_t made; /* places, place 0 stands for none */
	struct task *oldest, *newest; /* free ones, chained by `outer` */
	uint32_t free;
	struct base_lock type_lock;
	uintptr_t function[THREAD_TASK_TYPES];
	_Atomic uint32_t live[THREAD_TASK_TYPES];
} table = {.made = 1};

static bool is_type(uint32_t index, const struct task_type *wanted)
{
	const struct trace_task_type *type = trace_at(&trace_task_types, index);
	if (type->kind != (uint32_t)wanted->kind || table.function[index] != wanted->function)
		return false;
	return wanted->function || base_text_equal(type->name, wanted->name ? wanted->name : "");
}

static uint32_t find_type(const struct task_type *wanted)
{
	for (uint32_t i = 1; i < trace_count(&trace_task_types); i++)
		if (is_type(i, wanted))
			return i;
	return 0;
}

/* The last place is for the API's tasks of types beyond: a program asks for the figures of all of them. */
static uint32_t last_type(const struct task_type *wanted)
{
	struct task_type others = {TRACE_TASK_API, 0, "(others)"};
	struct trace_task_type type = {.kind = TRACE_TASK_API};
	uint32_t index = trace_count(&trace_task_types);
	if (wanted->kind != TRACE_TASK_API)
		return 0;
	base_text_copy(type.name, sizeof type.name, others.name);
	if (index < THREAD_TASK_TYPES && !trace_append(&trace_task_types, &type, &index))
		return 0;
	return is_type(THREAD_TASK_TYPES - 1, &others) ? THREAD_TASK_TYPES - 1 : 0;
}

static uint32_t add_type(const struct task_type *wanted)
{
	struct trace_task_type type = {.kind = wanted->kind};
	if (wanted->function)
		type.node = node_of_function(wanted->function);
	base_text_copy(type.name, sizeof type.name, wanted->name ? wanted->name : "");
	uint32_t index = trace_count(&trace_task_types);
	if (index >= THREAD_TASK_TYPES - 1)
		return last_type(wanted);
	if (!trace_append(&trace_task_types, &type, &index))
		return 0;
	table.function[index] = wanted->function;
	return index;
}

uint32_t task_type_of(const struct task_type *wanted)
{
	struct task_type type = *wanted;
	char name[sizeof((struct trace_task_type *)0)->name];
	if (type.name) { /* as long as it will stand in the record */
		base_text_copy(name, sizeof name, type.name);
		type.name = name;
	}
	uint32_t index = find_type(&type);
	if (index || !base_lock(&table.type_lock))
		return index;
	index = find_type(&type);
	if (!index)
		index = add_type(&type);
	base_unlock(&table.type_lock);
	return index;
}

void task_begin_recording(void)
{
	struct trace_task_type others = {.kind = TRACE_TASK_OTHERS};
	trace_append(&trace_task_types, &others, NULL);
}

void task_make_count(struct thread *thread, uint32_t type)
{
	static struct trace_task_count nowhere;
	struct trace_task_count fresh = {.slot = thread->slot, .type = type};
	struct trace_task_count *made = trace_append(&trace_task_counts, &fresh, NULL);
	if (!made)
		trace_loss(TRACE_LOSS_TASKS, 1);
	thread->task_counts[type] = made ? made : &nowhere;
}

static struct task *at(uint32_t index)
{
	return &table.chunk[index / CHUNK_TASKS][index % CHUNK_TASKS];
}

struct task *task_of_id(uint32_t id)
{
	uint32_t index = id & INDEX_MASK;
	if (index == 0 || index >= __atomic_load_n(&table.made, __ATOMIC_ACQUIRE))
		return NULL;
	struct task *task = at(index);
	return __atomic_load_n(&task->id, __ATOMIC_ACQUIRE) == id ? task : NULL;
}

static struct task *make_place(void)
{
	uint32_t index = table.made;
	if (index == TASKS_MAX)
		return NULL;
	struct task **chunk = &table.chunk[index / CHUNK_TASKS];
	if (!*chunk) {
		void *memory = base_map(CHUNK_TASKS * sizeof(struct task));
		if (!memory)
			return NULL;
		*chunk = memory;
	}
	at(index)->awaits = index; /* generation 0 */
	__atomic_store_n(&table.made, index + 1, __ATOMIC_RELEASE);
	return at(index);
}

/* `awaits` of a free place keeps its last id. */
static struct task *take_place(void)
{
	struct task *task = NULL;
	if (!base_lock(&table.lock))
		return NULL;
	if (table.free < KEPT_FREE)
		task = make_place();
	if (!task && table.free) {
		task = table.oldest;
		table.oldest = task->outer;
		table.free--;
	}
	base_unlock(&table.lock);
	if (!task)
		return NULL;
	uint32_t id = task->awaits + TASKS_MAX;
	*task = (struct task){0};
	task->awaits = id; /* until it is known whole */
	return task;
}

/* The lock is held. */
static void chain(struct task *task)
{
	task->outer = NULL;
	if (table.free)
		table.newest->outer = task;
	else
		table.oldest = task;
	table.newest = task;
	table.free++;
}

/* Of a task that has no id any more. */
static void give_place(struct task *task, uint32_t id)
{
	task->awaits = id;
	task->key = 0;
	if (!base_lock(&table.lock))
		return;
	chain(task);
	base_unlock(&table.lock);
}

/* Where the task's state is a block, it ends with that, and how the runtime hands it about is no fault. */
static void watch_key(struct task *task, struct trace_task_type *type)
{
	struct attachment attached;
	if (!task->key || !attach_add(task->key, ATTACH_TASK, task, task->id) ||
	    !attach_find(task->key, ATTACH_TASK, &attached) || !attached.on_block)
		return;
	struct block *block = block_of((void *)task->key);
	block_mark(block, BLOCK_HANDED);
	if (!type->birth_site)
		type->birth_site = block_site_doubted(block);
}

struct task *task_begin(struct thread *thread, uint32_t type, uintptr_t key)
{
	struct task *task = take_place();
	if (!task) {
		trace_loss(TRACE_LOSS_TASKS, 1);
		return NULL;
	}
	struct trace_task_type *record = trace_at(&trace_task_types, type);
	uint32_t id = task->awaits;
	task->awaits = 0;
	task->type = type;
	task->key = key;
	task->begin_ns = base_now_ns();
	__atomic_store_n(&task->id, id, __ATOMIC_RELEASE);
	watch_key(task, record);
	task_count(thread, type)->started++;
	trace_raise(&record->live_peak, atomic_fetch_add(&table.live[type], 1) + 1);
	return task;
}

struct task *task_of_key(struct thread *thread, uint32_t type, uintptr_t key)
{
	struct attachment attached;
	struct task *task = NULL;
	if (attach_find(key, ATTACH_TASK, &attached))
		task = task_of_id((uint32_t)attached.mark);
	if (!task)
		task = task_begin(thread, type, key);
	return task;
}

/* The thread that the task runs on may be leaving it at this moment: once every processor has passed a barrier, either its
   having left is seen here, or what was noted here is seen there. */
static bool runs_still(const struct task *task)
{
	static _Atomic bool registered;
	int saved = errno;
	if (!atomic_load(&registered)) {
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
		atomic_store(&registered, true);
	}
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	errno = saved;
	return atomic_load(&task->runs_on) != 0;
}

void task_end(struct thread *thread, struct task *task)
{
	uint32_t id = __atomic_load_n(&task->id, __ATOMIC_ACQUIRE), runner;
	atomic_store(&task->ended, true);
	runner = atomic_load(&task->runs_on);
	if (runner && (runner == thread->record_index + 1 || runs_still(task)))
		return;
	/* Who ends it and who leaves it may both come here: one of them. */
	if (!id || !__atomic_compare_exchange_n(&task->id, &id, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	if (task->inherited) {
		give_place(task, id);
		return;
	}
	struct trace_task_type *type = trace_at(&trace_task_types, task->type);
	struct trace_task_count *count = task_count(thread, task->type);
	int64_t blocks = atomic_load(&task->live_blocks), bytes = atomic_load(&task->live_bytes);
	uint64_t lifetime_ns = base_now_ns() - task->begin_ns;
	count->ended++;
	count->left_blocks += blocks > 0 ? (uint64_t)blocks : 0;
	count->left_bytes += bytes > 0 ? (uint64_t)bytes : 0;
	count->lifetime_ns += lifetime_ns;
	trace_raise(&type->lifetime_max_ns, lifetime_ns);
	trace_raise(&type->polls_max, task->polls);
	trace_raise(&type->bytes_peak, (uint64_t)task->bytes_peak);
	atomic_fetch_sub(&table.live[task->type], 1);
	if (task->key)
		attach_take_from(task->key, task);
	give_place(task, id);
}

int task_claim(struct thread *thread, struct task *task, uint32_t id)
{
	if (!task_visit(thread, task))
		return -EBUSY;
	uint32_t visited = (thread->record_index + 1) | TASK_VISITED;
	if (__atomic_load_n(&task->id, __ATOMIC_ACQUIRE) == id && !atomic_load(&task->ended)) {
		atomic_store(&task->runs_on, thread->record_index + 1);
		return 0;
	}
	/* Another has ended it; its place may be another task's by now. */
	if (atomic_compare_exchange_strong(&task->runs_on, &visited, 0))
		task_end_named(thread, task, id);
	return -EINVAL;
}

void task_finish(void)
{
	for (uint32_t index = 1; index < table.made; index++) {
		const struct task *task = at(index);
		if (!task->id)
			continue;
		struct trace_task_type *type = trace_at(&trace_task_types, task->type);
		trace_raise(&type->polls_max, task->polls);
		trace_raise(&type->bytes_peak, (uint64_t)task->bytes_peak);
	}
}

void task_end_named(struct thread *thread, struct task *task, uint32_t id)
{
	if (__atomic_load_n(&task->id, __ATOMIC_ACQUIRE) == id)
		task_end(thread, task);
}

void task_totals(enum trace_task_kind kind, uint64_t *started, uint64_t *ended, uint64_t *polls)
{
	*started = *ended = *polls = 0;
	for (uint32_t i = 0; i < trace_count(&trace_task_counts); i++) {
		const struct trace_task_count *count = trace_at(&trace_task_counts, i);
		const struct trace_task_type *type = trace_at(&trace_task_types, count->type);
		if (type->kind != (uint32_t)kind)
			continue;
		*started += count->started;
		*ended += count->ended;
		*polls += count->polls;
	}
}

static void lose_block(struct task *task, const struct block *block)
{
	atomic_fetch_sub_explicit(&task->live_blocks, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&task->live_bytes, (int64_t)block_usable(block_size(block)), memory_order_relaxed);
}

bool task_block_died(struct thread *thread, uint32_t id, const struct block *block)
{
	struct task *task = task_of_id(id);
	if (thread->handed_on == block)
		thread->handed_on = NULL;
	else if (task)
		lose_block(task, block);
	return task != NULL;
}

void task_hand_on(struct thread *thread, struct task *task, const struct block *block)
{
	task_account(thread); /* the peak is to know of it */
	lose_block(task, block);
}

void task_handed_dies(struct thread *thread, const struct block *block)
{
	if (segment_is_inherited(block_segment(block)))
		return;
	if (block_segment(block) != thread_segment(thread)) {
		thread->handed_on = block; /* until death_check asks */
		return;
	}
	/* A death in the birth's segment is in the thread's sums alone: they pass it over. */
	thread->other_deaths++;
	thread->other_deaths_bytes += block_usable(block_size(block));
	thread->slow_frees++;
}

/* The program still knows the API's tasks; all others have ended, and none runs. */
static void inherit(struct task *task)
{
	if (task->id && task->of_api) {
		task->inherited = true;
		task->type = 0;
		task->outer = NULL;
		atomic_store(&task->runs_on, 0);
		atomic_store(&task->live_blocks, 0);
		atomic_store(&task->live_bytes, 0);
		return;
	}
	if (task->id)
		task->awaits = task->id;
	task->id = 0;
	chain(task);
}

void task_child(void)
{
	table.free = 0;
	for (uint32_t index = 1; index < table.made; index++)
		inherit(at(index));
	for (uint32_t i = 0; i < THREAD_TASK_TYPES; i++) {
		table.function[i] = 0;
		atomic_store(&table.live[i], 0);
	}
}
