/* Slots are made when none is free, and never given back to the system. */
#include "core/slot.h"

#include "core/region/region.h"
#include "core/runtime.h"
#include "core/site.h"
#include "core/tier/frame.h"
#include "core/tier/pool.h"
#include "core/tier/remote.h"
#include "core/violation.h"

#define RECLAIMED_AT_ONCE 8u

static struct {
	struct base_lock lock;
	_Atomic uint32_t count;
	uint32_t last_free;
	uint8_t in_use[THREAD_SLOTS_MAX];
	struct thread *state[THREAD_SLOTS_MAX];
} slots;

#define SLOT_BYTES round_up(sizeof(struct thread), 4096)
#define TALLIES_BYTES round_up(VIOLATIONS_MAX * sizeof(struct trace_tally *), 4096)

/* The state of a thread, and the tables that go with it, in one mapping: a program may make many threads. */
static struct thread *slot_make(uint32_t slot)
{
	bool full = runtime.stacks == TRACE_STACKS_FULL && region_leaves_half(),
	     none = runtime.stacks == TRACE_STACKS_NONE;
	size_t paths_bytes = full ? path_cache_bytes() : 0, classes_bytes = none ? SITE_CLASS_TABLE_BYTES : 0;
	uint8_t *memory = base_map_wiped(SLOT_BYTES + TALLIES_BYTES + paths_bytes + classes_bytes);
	if (!memory)
		return NULL;
	struct thread *thread = (struct thread *)memory;
	uint8_t *tables = memory + SLOT_BYTES;
	thread->slot = slot;
	thread->tallies = (struct trace_tally **)tables;
	tables += TALLIES_BYTES;
	if (full)
		thread->alloc_paths = (struct path_cache *)tables;
	else if (none)
		thread->class_table = (struct thread_class *)tables;
	return thread;
}

struct thread *slot_take(void)
{
	if (!base_lock(&slots.lock))
		return NULL;
	uint32_t count = atomic_load(&slots.count), slot = count;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t candidate = (slots.last_free + count - i) % count;
		if (!slots.in_use[candidate]) {
			slot = candidate;
			break;
		}
	}
	if (slot == count && count < THREAD_SLOTS_MAX) {
		slots.state[slot] = slot_make(slot);
		if (slots.state[slot]) {
			atomic_store(&slots.count, count + 1);
			region_span_users(count + 1);
		} else {
			slot = THREAD_SLOTS_MAX;
		}
	}
	struct thread *thread = slot < THREAD_SLOTS_MAX ? slots.state[slot] : NULL;
	if (thread)
		slots.in_use[slot] = 1;
	base_unlock(&slots.lock);
	return thread;
}

void slot_give(struct thread *thread)
{
	if (!base_lock(&slots.lock))
		return;
	slots.in_use[thread->slot] = 0;
	slots.last_free = thread->slot;
	base_unlock(&slots.lock);
}

void slot_reclaim_idle(void)
{
	if (base_hurries()) /* a slot that could not be given back would be lost, and jemalloc may be what is interrupted */
		return;
	static _Atomic uint32_t cursor;
	uint32_t count = atomic_load(&slots.count);
	for (uint32_t i = 0; i < count && i < RECLAIMED_AT_ONCE; i++) {
		uint32_t slot = atomic_fetch_add_explicit(&cursor, 1, memory_order_relaxed) % count;
		struct thread *idle = slots.state[slot];
		if (__atomic_load_n(&slots.in_use[slot], __ATOMIC_RELAXED) || !remote_waits(idle) ||
		    !base_lock(&slots.lock))
			continue;
		bool taken = !slots.in_use[slot];
		if (taken)
			slots.in_use[slot] = 1;
		base_unlock(&slots.lock);
		if (!taken)
			continue;
		remote_take(idle);
		pool_empty_caches(idle);
		frame_give_empty(idle);
		if (base_lock(&slots.lock)) {
			slots.in_use[slot] = 0;
			base_unlock(&slots.lock);
		}
	}
}

bool slot_make_classes(struct thread *thread)
{
	if (runtime.stacks != TRACE_STACKS_NONE || thread->class_table)
		return true;
	thread->class_table = base_map_wiped(SITE_CLASS_TABLE_BYTES);
	return thread->class_table;
}

struct thread *slot_at(uint32_t slot)
{
	return slot < atomic_load(&slots.count) ? slots.state[slot] : NULL;
}

bool slot_make_other_paths(struct thread *thread)
{
	thread->other_paths = base_map_wiped(path_cache_bytes());
	return thread->other_paths;
}

static void own_paths(struct path_cache *cache, struct thread *thread)
{
	path_cache_own(cache, thread, counter_place(thread->groups[0]));
}

void slot_own_paths(struct thread *thread)
{
	if (thread->alloc_paths)
		own_paths(thread->alloc_paths, thread);
}

static struct path_stats forgotten_stats; /* of caches that were given up */

void slot_note_path_stats(void)
{
	struct path_stats stats = forgotten_stats;
	for (uint32_t i = 0; i < slot_count(); i++) {
		const struct thread *thread = slots.state[i];
		if (thread->alloc_paths)
			path_cache_stats(thread->alloc_paths, &stats);
		if (thread->other_paths)
			path_cache_stats(thread->other_paths, &stats);
	}
	trace_header->stack_captures = stats.captures;
	trace_header->stack_hits = stats.hits;
	trace_header->stack_checks = stats.checks;
	trace_header->stack_wrong = stats.wrong;
	trace_header->losses[TRACE_LOSS_UNWINDING] = stats.failed;
}

void slot_forget_paths(struct thread *thread)
{
	struct path_cache *fresh = thread->alloc_paths ? base_map_wiped(path_cache_bytes()) : NULL;
	if (fresh && base_lock(&slots.lock)) {
		path_cache_stats(thread->alloc_paths, &forgotten_stats);
		base_unlock(&slots.lock);
	}
	if (fresh) {
		own_paths(fresh, thread);
		/* The old one stays mapped, once a slot: a signal handler may be reading it. */
		thread->alloc_paths = fresh;
	}
}

uint32_t slot_count(void)
{
	return atomic_load(&slots.count);
}

void slot_child(void)
{
	/* The slots' memory reads zero now; blocks still point to it as their owner, so it stays mapped and unused. */
	atomic_store(&slots.count, 0);
	for (uint32_t i = 0; i < THREAD_SLOTS_MAX; i++)
		slots.in_use[i] = 0;
}
