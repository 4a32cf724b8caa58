/* Threads come and go. A thread's end is seen by a pthread key whose destructor puts itself back until the
   last round, so that other destructors still find the thread attached. */
#define _GNU_SOURCE
#include "core/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "core/account.h"
#include "core/counter.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/segment.h"
#include "core/own.h"
#include "core/slot.h"
#include "core/task.h"
#include "core/tier/frame.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"
#include "core/tier/remote.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define DESTRUCTOR_ROUNDS 3u /* of PTHREAD_DESTRUCTOR_ITERATIONS (4) */

static_assert(offsetof(struct thread, bump_max) == 64 && offsetof(struct thread, small_peak_at) == 128,
	      "what malloc and free write is one line, what they read another");

static struct thread state_empty;
static struct thread state_ended = {.gate = THREAD_ENDED};
__thread struct thread *thread_self = &state_empty;
static __thread uint32_t internal_depth;

static struct {
	pthread_key_t key;
	bool key_made;
	struct thread *late;
	struct base_lock late_lock;
	/* Users that may wait for others; where there is none, waiting for the lock comes to an end. */
	_Atomic uint32_t late_waits;
} table;

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
	while (remote_drain(thread))
		;
	pool_empty_caches(thread);
	frame_give_empty(thread);
	heap_free_rest();
	thread->record->end_ns = trace_header->last_ns = base_now_ns();
	thread->record->open_begin_ns = 0; /* whoever goes on in this record has no frame open */
	thread_self = &state_ended; /* first: a handler that found the gate open anew would attach another slot */
	thread->gate = 0;
	slot_give(thread);
}

/* Another thread has run frames in this slot, whose numbers mean nothing to the next one. */
static void forget_frames(struct thread *thread)
{
	thread->never_ends_frame = 0;
	for (uint32_t group = 0; group < THREAD_SITE_GROUPS; group++)
		for (uint32_t i = 0; thread->groups[group] && i < TRACE_GROUP_SITES; i++) {
			thread->groups[group][i].frame = 0;
			thread->groups[group][i].heap_frame_count = 0;
		}
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
	if (thread->frame)
		forget_frames(thread);
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
	thread->boundary_return = thread->boundary_stack = thread->await_return = 0;
	thread->await_node = 0;
	atomic_store(&thread->own_deaths_remote, 0);
	account_forget_seen(thread);
	thread_choose_classes(thread);
	slot_own_paths(thread);
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
		counter_of_slow(thread, 0);
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

/* Each of its operations tries anew: there may be memory later. */
static void tell_unattached(void)
{
	static __thread bool told;
	if (!told)
		trace_loss(TRACE_LOSS_THREADS, 1);
	told = true;
}

struct thread *thread_attach(uintptr_t start_routine, enum trace_role creator)
{
	struct thread *before = thread_self;
	thread_self = &state_ended; /* what is marked may be a function that this calls */
	uint64_t signals = base_shut_signals(BASE_NO_SIGNALS);
	struct thread *thread = attach(start_routine, creator);
	if (!thread) {
		thread_self = before;
		tell_unattached();
	}
	base_let_signals(signals);
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
	counter_of_slow(late, 0);
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
	for (uint32_t i = 0; i < slot_count(); i++) {
		struct thread *thread = slot_at(i);
		if (!slot_make_classes(thread))
			return false;
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
	uint64_t signals = base_shut_signals(BASE_NO_SIGNALS);
	thread_internal_begin();
	work(a, b);
	thread_internal_end();
	base_let_signals(signals);
}

struct thread *thread_late_enter(void)
{
	if (!table.late)
		return NULL;
	bool hurries = base_hurries();
	atomic_fetch_add(&table.late_waits, !hurries);
	for (unsigned turn = 0; !base_lock(&table.late_lock); turn++) {
		if (base_owns(&table.late_lock) || (hurries && atomic_load(&table.late_waits))) {
			atomic_fetch_sub(&table.late_waits, !hurries);
			return NULL;
		}
		base_wait(turn);
	}
	return table.late;
}

void thread_late_leave(void)
{
	base_unlock(&table.late_lock);
	atomic_fetch_sub(&table.late_waits, !base_hurries());
}

void thread_child(void)
{
	thread_self = &state_empty;
	atomic_store(&table.late_waits, 0);
	table.late = NULL;
	counter_child();
	slot_child();
}
