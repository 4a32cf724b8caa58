/* Slots: taken, handed on, found. The thread's end is seen by a pthread key whose destructor puts itself back until the
   last round, so that other destructors still find the thread attached. */
#define _GNU_SOURCE
#include "core/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "core/account.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/segment.h"
#include "core/own.h"
#include "core/site.h"
#include "core/task.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"
#include "core/tier/remote.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define RECLAIMED_AT_ONCE 8u
#define DESTRUCTOR_ROUNDS 3u /* of PTHREAD_DESTRUCTOR_ITERATIONS (4) */

static_assert(offsetof(struct thread, bump_max) == 64 && offsetof(struct thread, small_peak_at) == 128,
	      "what malloc and free write is one line, what they read another");

static struct thread state_empty;
static struct thread state_ended = {.gate = THREAD_ENDED};
__thread struct thread *thread_self = &state_empty;
static __thread uint32_t internal_depth;

static struct {
	struct base_lock lock;
	struct thread *slot[THREAD_SLOTS_MAX];
	uint8_t in_use[THREAD_SLOTS_MAX];
	_Atomic uint32_t count;
	uint32_t last_free;
	pthread_key_t key;
	bool key_made;
	struct thread *late;
	struct base_lock late_lock;
	_Atomic uint32_t
		late_waits; /* users that may wait for others; where there is none, waiting for the lock comes to an end */
} table;

static void *wiped_memory(size_t bytes)
{
	void *memory = base_map(bytes);
	if (memory)
		madvise(memory, bytes, MADV_WIPEONFORK);
	return memory;
}

#define SLOT_BYTES round_up(sizeof(struct thread), 4096)
#define TALLIES_BYTES round_up(VIOLATIONS_MAX * sizeof(struct trace_tally *), 4096)

/* The state of a thread, and the tables that go with it, in one mapping: a program may make many threads. */
static struct thread *slot_make(uint32_t slot)
{
	bool full = runtime.stacks == TRACE_STACKS_FULL, none = runtime.stacks == TRACE_STACKS_NONE;
	size_t paths_bytes = full ? path_cache_bytes() : 0, classes_bytes = none ? SITE_CLASS_TABLE_BYTES : 0;
	uint8_t *memory = wiped_memory(SLOT_BYTES + TALLIES_BYTES + 2 * paths_bytes + classes_bytes);
	if (!memory)
		return NULL;
	struct thread *thread = (struct thread *)memory;
	uint8_t *tables = memory + SLOT_BYTES;
	thread->slot = slot;
	thread->tallies = (struct trace_tally **)tables;
	tables += TALLIES_BYTES;
	if (full) {
		thread->alloc_paths = (struct path_cache *)tables;
		thread->other_paths = (struct path_cache *)(tables + paths_bytes);
		path_cache_own(thread->alloc_paths, thread);
	} else if (none) {
		thread->class_table = (struct thread_class *)tables;
	}
	return thread;
}

/* A free slot, made when there is none. Ones that were used last come first: they are warm. */
static struct thread *slot_take(void)
{
	if (!base_lock(&table.lock))
		return NULL;
	uint32_t count = atomic_load(&table.count), slot = count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t candidate = (table.last_free + count - i) % count;
		if (!table.in_use[candidate]) {
			slot = candidate;
			break;
		}
	}
	if (slot == count && count < THREAD_SLOTS_MAX) {
		table.slot[slot] = slot_make(slot);
		if (table.slot[slot]) {
			atomic_store(&table.count, count + 1);
			region_span_users(count + 1);
		} else {
			slot = THREAD_SLOTS_MAX;
		}
	}
	struct thread *thread = slot < THREAD_SLOTS_MAX ? table.slot[slot] : NULL;
	if (thread)
		table.in_use[slot] = 1;
	base_unlock(&table.lock);
	return thread;
}

static void slot_give(struct thread *thread)
{
	if (!base_lock(&table.lock))
		return;
	table.in_use[thread->slot] = 0;
	table.last_free = thread->slot;
	base_unlock(&table.lock);
}

void thread_reclaim_idle(void)
{
	if (base_hurries()) /* a slot that could not be given back would be lost, and jemalloc may be what is interrupted */
		return;
	static _Atomic uint32_t cursor;
	uint32_t count = atomic_load(&table.count);
	for (uint32_t i = 0; i < count && i < RECLAIMED_AT_ONCE; i++) {
		uint32_t slot = atomic_fetch_add_explicit(&cursor, 1, memory_order_relaxed) % count;
		struct thread *idle = table.slot[slot];
		if (__atomic_load_n(&table.in_use[slot], __ATOMIC_RELAXED) || !remote_waits(idle) ||
		    !base_lock(&table.lock))
			continue;
		bool taken = !table.in_use[slot];
		if (taken)
			table.in_use[slot] = 1;
		base_unlock(&table.lock);
		if (!taken)
			continue;
		remote_take(idle);
		pool_empty_caches(idle);
		if (base_lock(&table.lock)) {
			table.in_use[slot] = 0;
			base_unlock(&table.lock);
		}
	}
}

/* A record for a new thread; when the table is full, one of an ended thread goes on counting for this one as well. */
static struct trace_thread *record_make(uint32_t slot, uint32_t *index)
{
	struct trace_thread record = {.tid = base_tid(), .slot = slot, .start_ns = base_now_ns()};
	struct trace_thread *made = trace_append(&trace_threads, &record, index);
	if (made)
		return made;
	static _Atomic uint32_t cursor;
	for (uint32_t tries = 0; tries < trace_count(&trace_threads); tries++) {
		*index = atomic_fetch_add(&cursor, 1) % trace_count(&trace_threads);
		made = trace_at(&trace_threads, *index);
		uint64_t ended = made->end_ns;
		if (ended &&
		    __atomic_compare_exchange_n(&made->end_ns, &ended, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			trace_loss(TRACE_LOSS_THREADS, 1);
			made->folded_threads++;
			made->slot = slot;
			made->tid = record.tid;
			return made;
		}
	}
	return NULL;
}

/* The group of counters that has no label yet: the two arrays stay parallel. */
static struct {
	struct base_lock lock;
	struct trace_group *group; /* NULL: there is none */
	uint32_t index;
} unlabelled;

struct trace_counter *thread_counter_slow(struct thread *thread, uint32_t site)
{
	uint32_t group_index = site / TRACE_GROUP_SITES;
	if (base_lock(&unlabelled.lock)) {
		uint32_t label_index;
		struct trace_group_label label = {.slot = thread->slot, .first_site = UINT32_MAX};
		if (!unlabelled.group)
			unlabelled.group = trace_append(&trace_groups, NULL, &unlabelled.index);
		struct trace_group *group = unlabelled.group;
		struct trace_group_label *made = group ? trace_append(&trace_labels, &label, &label_index) : NULL;
		if (made) {
			fa_assert(unlabelled.index == label_index);
			__atomic_store_n(&made->first_site, group_index * TRACE_GROUP_SITES, __ATOMIC_RELEASE);
			for (uint32_t i = 0; i < TRACE_GROUP_SITES; i++)
				group->counter[i].site = group_index * TRACE_GROUP_SITES + i;
			thread->groups[group_index] = group->counter;
			/* After the pointer is there: rules that are settled meanwhile are seen by one of both. */
			atomic_thread_fence(memory_order_seq_cst);
			for (uint32_t i = 0; i < TRACE_GROUP_SITES && policy_in_force.rule_count; i++)
				rule_apply(&group->counter[i], rule_of_site(group->counter[i].site));
			unlabelled.group = NULL;
		}
		base_unlock(&unlabelled.lock);
	}
	if (thread->groups[group_index])
		return &thread->groups[group_index][site % TRACE_GROUP_SITES];
	trace_loss(TRACE_LOSS_COUNTERS, 1);
	return &thread->groups[0][0];
}

uint32_t block_site_doubted(const struct block *block)
{
	uintptr_t counter = (uintptr_t)counter_at(block_counter(block));
	if (!trace_header || segment_is_inherited(block_segment(block)) || !segment_was_leased(block_segment(block)))
		return 0;
	for (uint32_t i = 0; i < trace_groups.chunks; i++) {
		uintptr_t offset = counter - (uintptr_t)trace_groups.base[i];
		if (offset < trace_groups.per_chunk * sizeof(struct trace_group) &&
		    !(offset % sizeof(struct trace_counter)))
			return ((struct trace_counter *)counter)->site;
	}
	return 0;
}

static void destructor(void *value)
{
	struct thread *thread = value;
	if (thread != thread_self || !(thread->gate & THREAD_READY))
		return; /* wiped by a fork meanwhile */
	if (thread->destructor_rounds++ < DESTRUCTOR_ROUNDS) {
		thread_internal_begin();
		pthread_setspecific(table.key, thread);
		thread_internal_end();
		return;
	}
	base_unlock_all(); /* cancelled inside an operation, asynchronously */
	thread_busy(thread); /* to its end */
	task_leave_api(thread, NULL);
	remote_flush(thread);
	remote_drain(thread);
	pool_empty_caches(thread);
	heap_free_rest();
	thread->record->end_ns = trace_header->last_ns = base_now_ns();
	thread_self = &state_ended; /* first: a handler that found the gate open anew would attach another slot */
	thread->gate = 0;
	slot_give(thread);
}

static void prepare(struct thread *thread, struct trace_thread *record, uint32_t record_index, uintptr_t start_routine)
{
	thread->record = record;
	thread->record_index = record_index;
	record->start_routine = start_routine;
	thread->handle = (uintptr_t)pthread_self();
	thread->role = TRACE_ROLE_NONE;
	atomic_store(&thread->role_wanted, 0);
	thread->in_frame = thread->in_task = thread->frame_paused = false;
	thread->frame = (uint32_t)record->frames;
	thread->frame_base = 0;
	if (thread->coroutine) /* the one before ended on a coroutine's stack */
		thread->scopes = thread->own_stack.scopes;
	thread->coroutine = NULL;
	thread->own_stack = (struct thread_stack){0};
	thread->task = NULL;
	thread->guards = NULL;
	own_forget_frame(thread);
	atomic_store(&thread->frame_abandoned, false);
	thread->api_frames = thread->api_awaits = thread->api_paused_by = thread->tag_depth = 0;
	thread->scope_depth = thread->scope_room = 0;
	thread->tag = 0;
	thread->stack_low = thread->stack_high = 0;
	thread->destructor_rounds = 0;
	thread->boundary_node = 0;
	thread->boundary_live_max = 0;
	thread->boundary_return = thread->await_return = 0;
	thread->await_node = 0;
	atomic_store(&thread->own_deaths_remote, 0);
	account_forget_seen(thread);
	thread_choose_classes(thread);
	scope_settle(thread);
	account_forget_peak(thread);
	thread_new_segment(thread);
}

static struct thread *attach(uintptr_t start_routine, enum trace_role creator)
{
	int saved = errno;
	struct thread *thread = slot_take();
	uint32_t record_index;
	struct trace_thread *record = thread ? record_make(thread->slot, &record_index) : NULL;
	if (record && !thread->groups[0])
		thread_counter_slow(thread, 0);
	if (!record || !thread->groups[0]) {
		if (thread)
			slot_give(thread);
		errno = saved;
		return NULL;
	}
	prepare(thread, record, record_index, start_routine);
	thread->creator_role = (uint8_t)creator;
	thread->gate = THREAD_INTERNAL | THREAD_READY;
	thread_self = thread;
	internal_depth++;
	role_named(thread, NULL);
	if (table.key_made)
		pthread_setspecific(table.key, thread);
	internal_depth--;
	thread->gate = internal_depth ? THREAD_INTERNAL | THREAD_READY : THREAD_READY;
	errno = saved;
	return thread;
}

struct thread *thread_attach(uintptr_t start_routine, enum trace_role creator)
{
	struct thread *before = thread_self;
	sigset_t all, unblocked;
	thread_self = &state_ended; /* what is marked may be a function that this calls */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &unblocked);
	struct thread *thread = attach(start_routine, creator);
	if (!thread)
		thread_self = before;
	pthread_sigmask(SIG_SETMASK, &unblocked, NULL);
	return thread;
}

int thread_init(void)
{
	if (!table.key_made)
		table.key_made = pthread_key_create(&table.key, destructor) == 0;
	struct thread *late = slot_take();
	uint32_t index;
	struct trace_thread *record = late ? record_make(late->slot, &index) : NULL;
	if (!record)
		return -ENOMEM;
	thread_counter_slow(late, 0);
	if (!late->groups[0])
		return -ENOMEM;
	prepare(late, record, index, 0);
	record->tid = 0;
	base_text_copy(record->name, sizeof record->name, "(signals, ended threads)");
	/* A handler may have interrupted jemalloc: what it allocates comes from the pool. The record keeps no role. */
	late->role = TRACE_ROLE_WORKER;
	thread_choose_classes(late);
	scope_settle(late);
	late->gate = THREAD_READY;
	table.late = late;
	return 0;
}

bool thread_take_stacks(void)
{
	for (uint32_t i = 0; i < atomic_load(&table.count); i++) {
		struct thread *thread = table.slot[i];
		if (runtime.stacks == TRACE_STACKS_NONE && !thread->class_table) {
			thread->class_table = wiped_memory(SITE_CLASS_TABLE_BYTES);
			if (!thread->class_table)
				return false;
		}
		thread_choose_classes(thread);
	}
	/* Threads that a library's constructor made come by the general path until a marker settles theirs. */
	scope_settle(table.late);
	if (thread_self->gate & THREAD_READY)
		scope_settle(thread_self);
	return true;
}

void thread_internal_begin(void)
{
	internal_depth++;
	if (thread_self->gate & THREAD_READY)
		thread_self->gate |= THREAD_INTERNAL;
}

void thread_internal_end(void)
{
	if (--internal_depth == 0 && thread_self->gate & THREAD_READY)
		thread_self->gate &= ~THREAD_INTERNAL;
}

void thread_internal_shielded(void (*work)(void *a, void *b), void *a, void *b)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	thread_internal_begin();
	work(a, b);
	thread_internal_end();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct thread *thread_late_enter(void)
{
	if (!table.late)
		return NULL;
	bool hurries = base_hurries();
	atomic_fetch_add(&table.late_waits, !hurries);
	while (!base_lock(&table.late_lock)) {
		if (base_owns(&table.late_lock) || (hurries && atomic_load(&table.late_waits))) {
			atomic_fetch_sub(&table.late_waits, !hurries);
			return NULL;
		}
		sched_yield();
	}
	return table.late;
}

void thread_late_leave(void)
{
	base_unlock(&table.late_lock);
	atomic_fetch_sub(&table.late_waits, !base_hurries());
}

struct thread *thread_of_slot(uint32_t slot)
{
	return slot < atomic_load(&table.count) ? table.slot[slot] : NULL;
}

static struct path_stats forgotten_stats; /* of caches that were given up */

void thread_note_path_stats(void)
{
	struct path_stats stats = forgotten_stats;
	for (uint32_t i = 0; i < thread_slot_count(); i++) {
		const struct thread *thread = table.slot[i];
		if (!thread->alloc_paths)
			continue;
		path_cache_stats(thread->alloc_paths, &stats);
		path_cache_stats(thread->other_paths, &stats);
	}
	trace_header->stack_captures = stats.captures;
	trace_header->stack_hits = stats.hits;
	trace_header->stack_checks = stats.checks;
	trace_header->stack_wrong = stats.wrong;
	trace_header->losses[TRACE_LOSS_UNWINDING] = stats.failed;
}

void thread_forget_paths(struct thread *thread)
{
	struct path_cache *fresh = thread->alloc_paths ? wiped_memory(path_cache_bytes()) : NULL;
	if (fresh && base_lock(&table.lock)) {
		path_cache_stats(thread->alloc_paths, &forgotten_stats);
		base_unlock(&table.lock);
	}
	if (fresh) {
		path_cache_own(fresh, thread);
		thread->alloc_paths =
			fresh; /* the old one stays mapped, once a slot: a signal handler may be reading it */
	}
}

uint32_t thread_slot_count(void)
{
	return atomic_load(&table.count);
}

void thread_child(void)
{
	thread_self = &state_empty;
	atomic_store(&table.late_waits, 0);
	table.late = NULL;
	unlabelled.group = NULL;
	/* The slots' memory reads zero now; blocks still point to it as their owner, so it stays mapped and unused. */
	atomic_store(&table.count, 0);
	for (uint32_t i = 0; i < THREAD_SLOTS_MAX; i++)
		table.in_use[i] = 0;
}
