/* Stacks in the order of their addresses, so that a stack pointer finds its coroutine by halving. */
#define _GNU_SOURCE
#include "core/coroutine.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "core/attach.h"
#include "core/region/region.h"
#include "core/scope.h"
#include "core/scope_stack.h"
#include "core/store.h"
#include "core/task.h"
#include "core/trace/writer.h"

#define STACK_MAX_BYTES (64u << 20) /* around a stack pointer of which nothing else is known */
/* Where glibc's makecontext puts the first stack pointer below the end, at most: whoever switches from above it is the
   code that the coroutine's function has returned to. */
#define TOP_BYTES 24u

struct coroutine {
	uintptr_t low, high, entry;
	uint64_t serial; /* 0: not in use */
	struct task *task; /* NULL before its first resumption */
	uint32_t task_id;
	struct thread_stack stack; /* while another runs */
};

static struct {
	struct base_lock lock;
	struct coroutine **sorted; /* by low; they do not overlap */
	uint32_t count, room;
	uint64_t serial;
} table;
static struct store records = {.record_bytes = 112};
static_assert(sizeof(struct coroutine) <= 112, "record of the store");

/* The first place whose stack ends above `address`. */
static uint32_t place_of(uintptr_t address)
{
	uint32_t low = 0, high = table.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (table.sorted[middle]->high <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct coroutine *coroutine_at(uintptr_t address)
{
	uint32_t place = place_of(address);
	return place < table.count && table.sorted[place]->low <= address ? table.sorted[place] : NULL;
}

static bool make_room(void)
{
	if (table.count < table.room)
		return true;
	uint32_t room = table.room ? table.room * 2 : 512;
	void *memory = base_map(room * sizeof *table.sorted);
	if (!memory)
		return false;
	if (table.sorted) {
		memcpy(memory, table.sorted, table.count * sizeof *table.sorted);
		munmap(table.sorted, table.room * sizeof *table.sorted);
	}
	table.sorted = memory;
	table.room = room;
	return true;
}

static void take_out(uint32_t place)
{
	memmove(table.sorted + place, table.sorted + place + 1, (--table.count - place) * sizeof *table.sorted);
}

/* The live block of ours that `address` lies in. Its header is told by its check, a size that reaches so far and is one
   of a stack, and a segment that there has been: what lies on a stack by chance has not all of them. The program may have
   made a guard of one of the pages between. */
static bool block_around(uintptr_t address, uintptr_t *low, uintptr_t *high)
{
	for (uintptr_t at = address & ~15ul; address - at < STACK_MAX_BYTES; at -= 16) {
		const struct block *block = (const struct block *)at;
		if (region_owner_of(block) == REGION_NONE)
			return false;
		bool enters_page = at % PAGE_BYTES == PAGE_BYTES - BLOCK_HEADER_BYTES;
		if (enters_page && !base_page_readable(at)) {
			at -= at % PAGE_BYTES;
			continue;
		}
		uintptr_t start = at + BLOCK_HEADER_BYTES;
		if (block_is_live(block) && start <= address && block_size(block) > address - start &&
		    block_size(block) <= STACK_MAX_BYTES) {
			*low = start;
			*high = start + block_size(block);
			return true;
		}
	}
	return false;
}

static uintptr_t hexadecimal(const char **text)
{
	uintptr_t value = 0;
	for (;; (*text)++) {
		char c = **text;
		if (c >= '0' && c <= '9')
			value = value << 4 | (uintptr_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uintptr_t)(c - 'a' + 10);
		else
			return value;
	}
}

static bool mapping_around(uintptr_t address, uintptr_t *low, uintptr_t *high)
{
	char text[4096];
	long got, kept = 0;
	bool found = false;
	int fd = base_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	while (!found && (got = base_read(fd, text + kept, sizeof text - 1 - (size_t)kept)) > 0) {
		char *line = text, *end;
		text[kept + got] = 0;
		for (; !found && (end = strchr(line, '\n')); line = end + 1) {
			const char *at = line;
			*low = hexadecimal(&at);
			at++;
			*high = hexadecimal(&at);
			found = address >= *low && address < *high;
		}
		kept = (long)strlen(line);
		memmove(text, line, (size_t)kept);
	}
	base_close(fd);
	return found;
}

static void end(struct thread *thread, struct coroutine *coroutine)
{
	struct task *task = coroutine->task ? task_of_id(coroutine->task_id) : NULL;
	if (task && thread) {
		atomic_store(&task->runs_on, 0);
		task_end(thread, task);
	}
	if (coroutine->stack.scopes)
		munmap(coroutine->stack.scopes, SCOPE_STACK_MAX * sizeof *coroutine->stack.scopes);
	coroutine->serial = 0;
	store_give(&records, coroutine);
}

/* Takes out those that overlap [low, high): for the caller to end, `room` of them at most. */
static uint32_t take_overlapping(uintptr_t low, uintptr_t high, struct coroutine **out, uint32_t room)
{
	uint32_t taken = 0, place = place_of(low);
	while (taken < room && place < table.count && table.sorted[place]->low < high) {
		out[taken++] = table.sorted[place];
		take_out(place);
	}
	return taken;
}

static struct coroutine *add(struct thread *thread, uintptr_t low, uintptr_t high, uintptr_t entry)
{
	struct coroutine *old[16], *fresh = store_take(&records);
	uint32_t overlapping = 0;
	if (!fresh || !base_lock(&table.lock)) {
		trace_loss(TRACE_LOSS_TASKS, 1);
		if (fresh)
			store_give(&records, fresh);
		return NULL;
	}
	do { /* a larger stack may lie where many small ones were */
		while (overlapping)
			end(thread, old[--overlapping]);
		overlapping = take_overlapping(low, high, old, 16);
	} while (overlapping == 16);
	bool added = make_room();
	if (added) {
		uint32_t place = place_of(low);
		memmove(table.sorted + place + 1, table.sorted + place, (table.count++ - place) * sizeof *table.sorted);
		table.sorted[place] = fresh;
		*fresh = (struct coroutine){.low = low, .high = high, .entry = entry, .serial = ++table.serial};
		fresh->stack.low = low;
		fresh->stack.high = high;
	}
	base_unlock(&table.lock);
	while (overlapping)
		end(thread, old[--overlapping]);
	if (!added) {
		trace_loss(TRACE_LOSS_TASKS, 1);
		store_give(&records, fresh);
		return NULL;
	}
	uintptr_t block = low, block_end;
	if (block_around(low, &block, &block_end))
		attach_add(block, ATTACH_COROUTINE, fresh, fresh->serial);
	return fresh;
}

void coroutine_prepare(struct thread *thread, uintptr_t low, uintptr_t high, uintptr_t entry)
{
	if (low < high && high - low <= 1ull << 40)
		add(thread, low, high, entry);
}

static void remove_from_table(struct coroutine *coroutine)
{
	if (!base_lock(&table.lock))
		return;
	uint32_t place = place_of(coroutine->low);
	if (place < table.count && table.sorted[place] == coroutine)
		take_out(place);
	base_unlock(&table.lock);
}

void coroutine_end_named(struct thread *thread, struct coroutine *coroutine, uint64_t serial)
{
	if (coroutine->serial != serial || (thread && thread->coroutine == coroutine))
		return;
	remove_from_table(coroutine);
	end(thread, coroutine);
}

static void save(const struct thread *thread, struct thread_stack *stack)
{
	*stack = (struct thread_stack){thread->scopes,    thread->scope_depth, thread->scope_room, thread->tag,
				       thread->stack_low, thread->stack_high,  thread->task};
}

static void load(struct thread *thread, const struct thread_stack *stack)
{
	thread->scopes = stack->scopes;
	thread->scope_depth = stack->depth;
	thread->scope_room = stack->room;
	thread->stack_low = stack->low;
	thread->stack_high = stack->high;
	thread->task = stack->task;
	if (thread->tag != stack->tag)
		scope_tag(thread, stack->tag);
}

static void suspend(struct thread *thread, uintptr_t from)
{
	struct coroutine *coroutine = thread->coroutine;
	task_account(thread);
	if (!coroutine) {
		save(thread, &thread->own_stack);
		return;
	}
	save(thread, &coroutine->stack);
	thread->coroutine = NULL;
	if (coroutine->task)
		atomic_store_explicit(&coroutine->task->runs_on, 0, memory_order_release);
	if (from > coroutine->high - TOP_BYTES && from <= coroutine->high) {
		remove_from_table(coroutine);
		end(thread, coroutine);
	}
}

static void begin_task(struct thread *thread, struct coroutine *coroutine, const char *by)
{
	struct task_type type = {TRACE_TASK_COROUTINE, coroutine->entry, by};
	coroutine->task = task_begin(thread, task_type_of(&type), 0);
	if (!coroutine->task)
		return;
	coroutine->task_id = coroutine->task->id;
	coroutine->stack.task = coroutine->task;
	coroutine->stack.tag = thread->tag;
}

static void resume(struct thread *thread, struct coroutine *coroutine, const char *by)
{
	if (!coroutine->task)
		begin_task(thread, coroutine, by);
	load(thread, &coroutine->stack);
	thread->coroutine = coroutine;
	if (!coroutine->task)
		return;
	atomic_store_explicit(&coroutine->task->runs_on, thread->record_index + 1, memory_order_relaxed);
	coroutine->task->awaits++;
	coroutine->task->polls++;
	task_count(thread, coroutine->task->type)->polls++;
}

static struct coroutine *coroutine_of(struct thread *thread, uintptr_t to)
{
	struct coroutine *known = NULL;
	uintptr_t low, high;
	if (base_lock(&table.lock)) {
		known = coroutine_at(to);
		base_unlock(&table.lock);
	}
	if (known || scope_on_own_stack(thread, to))
		return known;
	if (!block_around(to, &low, &high) && !mapping_around(to, &low, &high))
		return NULL;
	return add(thread, low, high, 0);
}

static void change(struct thread *thread, struct coroutine *target, uintptr_t from, const char *by)
{
	if (!thread->coroutine) /* now: a coroutine's stack may have no room to ask on */
		(void)scope_on_own_stack(thread, from);
	suspend(thread, from);
	if (target)
		resume(thread, target, by);
	else
		load(thread, &thread->own_stack);
	thread->coroutine = target;
	task_account(thread);
	scope_settle(thread);
	thread_new_segment(thread);
}

void coroutine_switch(struct thread *thread, uintptr_t from, uintptr_t to, const char *by)
{
	struct coroutine *target = coroutine_of(thread, to);
	if (target != thread->coroutine)
		change(thread, target, from, by);
}

bool coroutine_any(void)
{
	return __atomic_load_n(&table.count, __ATOMIC_RELAXED) != 0;
}

/* A handler on its alternate stack that jumps out of it is no coroutine, nor is it left for one. */
void coroutine_jump(struct thread *thread, uintptr_t from, uintptr_t to)
{
	struct coroutine *target = NULL;
	if (!base_lock(&table.lock))
		return;
	target = coroutine_at(to);
	base_unlock(&table.lock);
	if (target != thread->coroutine && (target || scope_on_own_stack(thread, to)))
		change(thread, target, from, "longjmp");
}

void coroutine_child(void)
{
	table.count = 0;
}
