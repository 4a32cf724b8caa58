/* Keys are found through a small hash table beside the recording. Counting a known key takes no lock. */
#define _GNU_SOURCE
#include "core/violation.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/check.h"
#include "core/trace/writer.h"

#define KEYS (1u << 14)

static struct {
	struct base_lock lock;
	_Atomic uint32_t *hash; /* record index + 1 */
} table;

int violation_init(void)
{
	void *memory = base_map(KEYS * sizeof(uint32_t));
	if (!memory)
		return -ENOMEM;
	table.hash = memory;
	return 0;
}

/* The record of a key, and its number. */
static struct trace_violation *find(const struct violation *v, uint32_t *empty, uint32_t *number)
{
	uint64_t h =
		((uint64_t)v->site << 32 | v->other) * 0x9e3779b97f4a7c15u ^ (uint64_t)v->code * 0xff51afd7ed558ccdu;
	uint32_t at = (uint32_t)(h ^ h >> 31) & (KEYS - 1);
	for (;; at = (at + 1) & (KEYS - 1)) {
		uint32_t index = atomic_load_explicit(&table.hash[at], memory_order_acquire);
		if (!index) {
			*empty = at;
			return NULL;
		}
		struct trace_violation *record = trace_at(&trace_violations, index - 1);
		if (record->code == v->code && record->site == v->site && record->other == v->other &&
		    record->tag == v->tag && record->role == v->role) {
			*number = index - 1;
			return record;
		}
	}
}

static void count(struct trace_violation *record, const struct violation *v)
{
	trace_add(&record->count, v->count);
	trace_add(&record->bytes, v->bytes);
	__atomic_store_n(&record->last_frame, v->frame, __ATOMIC_RELAXED);
	trace_raise(&record->worst_lifetime_frames, v->lifetime_frames);
	trace_raise(&record->value, v->value);
	if (v->level > record->level)
		record->level = v->level;
	uint32_t n = __atomic_load_n(&record->occurrences, __ATOMIC_RELAXED);
	if (n < TRACE_OCCURRENCES &&
	    __atomic_compare_exchange_n(&record->occurrences, &n, n + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		record->occurrence[n] = v->occurrence;
}

static struct trace_violation *add(struct thread *thread, const struct violation *v, uint32_t *number)
{
	if (!base_lock(&table.lock))
		return NULL;
	uint32_t empty;
	struct trace_violation *record = find(v, &empty, number);
	if (!record) {
		struct trace_violation fresh = {.code = v->code,
						.site = v->site,
						.other = v->other,
						.level = v->level,
						.first_frame = v->frame,
						.limit = v->limit,
						.tag = v->tag,
						.role = v->role,
						.thread = thread->record_index};
		record = trace_append(&trace_violations, &fresh, number);
		if (record)
			atomic_store_explicit(&table.hash[empty], *number + 1, memory_order_release);
	}
	base_unlock(&table.lock);
	return record;
}

static struct trace_tally *tally_of(struct thread *thread, uint32_t number)
{
	struct trace_tally fresh = {.slot = thread->slot, .violation = number};
	if (!thread->tallies[number])
		thread->tallies[number] = trace_append(&trace_tallies, &fresh, NULL);
	return thread->tallies[number];
}

struct trace_tally *violation_record(struct thread *thread, const struct violation *v)
{
	uint32_t empty, number = 0;
	struct trace_violation *record = find(v, &empty, &number);
	if (!record)
		record = add(thread, v, &number);
	thread->frame_violations += v->count;
	if (!record) {
		trace_loss(TRACE_LOSS_VIOLATIONS, v->count);
		return NULL;
	}
	count(record, v);
	return record->occurrences == TRACE_OCCURRENCES && record->level >= v->level ? tally_of(thread, number) : NULL;
}

static void threshold(struct thread *thread, uint32_t code, uint32_t site, uint32_t tag, uint32_t role, uint64_t value,
		      uint64_t limit)
{
	struct violation v = {.code = code,
			      .level = check_level(code, false),
			      .site = site,
			      .tag = tag,
			      .role = role,
			      .count = 1,
			      .frame = thread->frame,
			      .value = value,
			      .limit = limit,
			      .occurrence = {.size_bytes = value,
					     .born_thread = thread->record_index,
					     .died_thread = UINT32_MAX,
					     .scope_end_node = thread->boundary_node,
					     .born_frame = thread->frame,
					     .died_frame = thread->frame}};
	violation_record(thread, &v);
}

void violation_threshold(struct thread *thread, uint32_t code, uint32_t site, uint64_t value, uint64_t limit)
{
	threshold(thread, code, site, 0, 0, value, limit);
}

void violation_count(struct thread *thread, uint32_t code, uint32_t other, uint64_t count, uint64_t bytes)
{
	struct violation v = {.code = code,
			      .level = check_level(code, false),
			      .other = other,
			      .count = count,
			      .bytes = bytes,
			      .frame = thread->frame,
			      .occurrence = {.size_bytes = bytes,
					     .born_thread = UINT32_MAX,
					     .died_thread = thread->record_index,
					     .died_node = other,
					     .born_frame = thread->frame,
					     .died_frame = thread->frame}};
	violation_record(thread, &v);
}

void violation_budget(struct thread *thread, uint32_t tag, uint32_t role, uint64_t bytes, uint64_t budget)
{
	threshold(thread, 301, 0, tag, role, bytes, budget);
}

void violation_child(void)
{
	munmap(table.hash, KEYS * sizeof(uint32_t));
}
