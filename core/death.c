/* From header and segment table to verdict, counters and violation. */
#include "core/death.h"

#include "core/check.h"
#include "core/counter.h"
#include "core/escape.h"
#include "core/node.h"
#include "core/runtime.h"
#include "core/segment.h"
#include "core/task.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define LONG_LIVED 501u

/* Of a task's block. */
static struct check_birth resolve_task(struct thread *thread, const struct block *block)
{
	struct segment_record segment;
	struct check_birth birth = {.in_scope = true, .thread = SEGMENT_NO_THREAD};
	if (segment_resolve(block_segment(block), &segment) && segment.thread & SEGMENT_OF_TASK) {
		birth.thread = segment_thread(&segment);
		birth.task = segment.frame;
		birth.awaits = segment.awaits;
		birth.scope_open = task_block_died(thread, segment.frame, block);
		return birth;
	}
	/* Older than the table: taken for the present task's, if there is one, from an earlier poll. */
	thread->handed_on = NULL;
	trace_add(&trace_header->clamped_lifetimes, 1);
	trace_loss(TRACE_LOSS_LIFETIMES, 1);
	birth.scope_open = thread->task != NULL;
	birth.task = thread->task ? thread->task->id : UINT32_MAX;
	birth.awaits = UINT32_MAX;
	return birth;
}

/* What is known of the birth, and the owner's present. `owner` may be NULL when the segment is too old to resolve. */
static struct check_birth resolve(struct thread *thread, const struct block *block, const struct trace_thread **owner)
{
	struct segment_record segment;
	struct check_birth birth = {.in_scope = true};
	if (segment_resolve(block_segment(block), &segment)) {
		birth.thread = segment_thread(&segment);
		*owner = trace_at(&trace_threads, birth.thread);
		birth.frame = segment.frame;
		birth.awaits = segment.awaits;
		birth.scope_open =
			(uint32_t)(*owner)->frames == segment.frame && (*owner)->open_begin_ns && !(*owner)->end_ns;
		return birth;
	}
	/* Older than the table: certainly another frame; taken for this thread's own unless it runs no frames. */
	trace_add(&trace_header->clamped_lifetimes, 1);
	trace_loss(TRACE_LOSS_LIFETIMES, 1);
	*owner = NULL;
	birth.thread = thread->in_frame ? thread->record_index : SEGMENT_NO_THREAD;
	return birth;
}

static void lifetime_add(uint32_t site_index, uint32_t frames)
{
	static struct base_lock lock;
	struct trace_site *site = trace_at(&trace_sites, site_index);
	if (!site->lifetime && base_lock(&lock)) {
		struct trace_lifetime fresh = {.site = site_index};
		uint32_t index;
		if (!site->lifetime && trace_append(&trace_lifetimes, &fresh, &index))
			__atomic_store_n(&site->lifetime, index + 1, __ATOMIC_RELEASE);
		base_unlock(&lock);
	}
	uint32_t lifetime = __atomic_load_n(&site->lifetime, __ATOMIC_ACQUIRE);
	if (!lifetime)
		return;
	struct trace_lifetime *record = trace_at(&trace_lifetimes, lifetime - 1);
	__atomic_fetch_add(&record->bucket[trace_lifetime_bucket(frames)], 1, __ATOMIC_RELAXED);
	trace_raise(&record->max, frames);
}

static inline void count(struct thread *thread, struct trace_counter *counter, enum check_verdict verdict)
{
	switch (verdict) {
	case CHECK_DIED_IN_SEGMENT:
		counter->died_in_segment++;
		return;
	case CHECK_DIED_IN_FRAME:
		counter->died_in_frame++;
		return;
	case CHECK_CROSSED_AWAIT:
		counter->crossed_await++;
		return;
	case CHECK_OUTLIVED_FRAME:
		counter->outlived_frame++;
		break;
	case CHECK_DIED_ELSEWHERE:
		counter->died_elsewhere++;
		break;
	case CHECK_OUTSIDE_SCOPES:
		counter->died_outside++;
		break;
	}
	thread->slow_frees++; /* not a block of this thread's open frame */
}

/* The first of its kind, or one of a kind that has lost its place in the thread's short list. */
static cold_path void record_slow(struct thread *thread, const struct block *block, const struct check_birth *birth,
				  const struct check_result *result, const struct thread *owner,
				  struct thread_escape *escape, struct thread_escape key, uint64_t frame)
{
	struct violation v = {.code = result->code,
			      .level = escape_level(key),
			      .site = block_site(block),
			      .other = escape_died_node(key),
			      .count = 1,
			      .bytes = block_size(block),
			      .frame = frame,
			      .lifetime_frames = result->lifetime_frames,
			      .occurrence = {.size_bytes = block_size(block),
					     .born_thread = birth->thread,
					     .died_thread = thread->record_index,
					     .scope_end_node = !owner ? 0
							       : result->verdict == CHECK_CROSSED_AWAIT
								       ? owner->await_node
								       : owner->boundary_node,
					     .born_frame = birth->frame,
					     .died_frame = (uint32_t)frame,
					     .died_node = escape_died_node(key)}};
	*escape = key;
	escape->tally = violation_record(thread, &v);
	if (v.code != LONG_LIVED && result->lifetime_frames)
		lifetime_add(v.site, result->lifetime_frames);
}

static void record(struct thread *thread, const struct block *block, const struct check_birth *birth,
		   const struct check_result *result, const struct thread *owner, const uintptr_t *fp)
{
	enum trace_level level = check_lifetime_level(block_tag(block) & BLOCK_ASKED && result->code != LONG_LIVED);
	struct thread_escape key =
		escape_key(result->code, level, block_site(block), fp ? node_of_call(thread, fp) : 0);
	struct thread_escape *escape = escape_of(thread, key);
	uint64_t frame = thread->in_frame ? thread->frame : owner ? owner->frame : 0;
	if (unlikely(!escape_is_known(escape, key))) {
		record_slow(thread, block, birth, result, owner, escape, key, frame);
		return;
	}
	escape_count(thread, escape->tally, block_size(block), frame, result->lifetime_frames);
	if (result->code != LONG_LIVED)
		escape_count_lifetime(escape->tally, result->lifetime_frames);
}

/* A task's block in another segment: a verdict, no code, and the type's count of those that cross awaits. */
static void task_block_died_elsewhere(struct thread *thread, struct trace_counter *counter, const struct block *block)
{
	struct check_birth birth = resolve_task(thread, block);
	struct check_death death = {.thread = thread->record_index};
	if (thread->task) {
		death.task = thread->task->id;
		death.task_awaits = thread->task->awaits;
	}
	enum check_verdict verdict = check_death(&birth, &death, 0).verdict;
	count(thread, counter, verdict);
	if (verdict == CHECK_CROSSED_AWAIT || verdict == CHECK_DIED_IN_FRAME)
		thread->slow_frees++;
	if (verdict == CHECK_CROSSED_AWAIT && thread->task)
		task_count(thread, thread->task->type)->crossed_await++;
}

void death_check(struct thread *thread, struct trace_counter *counter, const struct block *block, const uintptr_t *fp)
{
	uint32_t tag = block_tag(block);
	thread->other_deaths++;
	thread->other_deaths_bytes += block_usable(block_size(block));
	if (!(tag & BLOCK_IN_SCOPE)) {
		count(thread, counter, CHECK_OUTSIDE_SCOPES);
		return;
	}
	if ((tag & BLOCK_SCOPE) == BLOCK_IN_TASK) {
		task_block_died_elsewhere(thread, counter, block);
		return;
	}
	const struct trace_thread *owner_record;
	struct check_birth birth = resolve(thread, block, &owner_record);
	struct check_death death = {.thread = thread->record_index,
				    .frame = thread->in_frame ? thread->frame : 0,
				    .awaits = thread->awaits,
				    .task = thread->task ? thread->task->id : 0};
	uint32_t owner_frame = owner_record ? (uint32_t)owner_record->frames : thread->frame;
	struct check_result result = check_death(&birth, &death, owner_frame);
	count(thread, counter, result.verdict);

	struct thread *owner = owner_record ? escape_owner(owner_record) : thread;
	if (result.verdict == CHECK_DIED_ELSEWHERE && owner)
		atomic_fetch_add_explicit(&owner->own_deaths_remote, 1, memory_order_relaxed);
	bool not_frame = (tag & (BLOCK_ASKED | BLOCK_HANDED)) == (BLOCK_ASKED | BLOCK_HANDED) &&
			 block_account(tag) != TRACE_TIER_FRAME;
	bool handed = not_frame || (tag & BLOCK_HANDED && (birth.thread != death.thread || death.task));
	if (!result.code || handed) {
		if (result.lifetime_frames)
			lifetime_add(block_site(block), result.lifetime_frames);
		return;
	}
	record(thread, block, &birth, &result, owner, fp);
	if (result.lifetime_frames > runtime.long_lived && block_account(tag) == TRACE_TIER_FRAME) {
		struct check_result long_lived = {result.verdict, LONG_LIVED, result.lifetime_frames};
		record(thread, block, &birth, &long_lived, owner, NULL);
	}
}
