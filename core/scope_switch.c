/* What a marker changes on its fast path: the segment, the region. Inside a patched function: general registers only. */
#include "core/account.h"
#include "core/counter.h"
#include "core/events.h"
#include "core/mark/mark.h"
#include "core/policy.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/segment.h"
#include "core/site.h"
#include "core/tag.h"
#include "core/task.h"
#include "core/tier/pool.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define OUTSIDE_FEW 512u /* one of so many */

static always_inline void new_segment(struct thread *thread)
{
	uint64_t segment = segment_next(&thread->segments);
	thread->birth = block_birth_of(segment);
	thread->clean_birth = likely(!events_area) ? thread->birth : block_birth_of(SEGMENT_NONE);
	const struct task *task = thread->task;
	if (unlikely(task != NULL))
		segment_publish(segment, thread->record_index | SEGMENT_OF_TASK, task->id, task->awaits);
	else
		segment_publish(segment, thread->record_index, thread->in_frame ? thread->frame : 0, thread->awaits);
}

void thread_new_segment(struct thread *thread)
{
	new_segment(thread);
}

/* What began outside the frame tier, and was hardly ever in it, may enter: many of its blocks have died in their frames, and few
   have not. Those that survivors got demoted have been in it; scope_judge_demotions is for them. */
static bool is_proven(const struct trace_counter *counter)
{
	uint64_t births =
		trace_counter_births(counter, TRACE_BIRTH_POOL_IN) + trace_counter_births(counter, TRACE_BIRTH_HEAP_IN);
	uint64_t died = counter->died_in_segment + counter->died_in_frame + counter->crossed_await;
	uint64_t within = trace_counter_births(counter, TRACE_BIRTH_FRAME_IN), few = births / OUTSIDE_FEW;
	return births >= runtime.options.threshold[TRACE_THRESHOLD_MIN_SAMPLES] && within <= few &&
	       births + within <= died + few;
}

void account_forget_seen(struct thread *thread)
{
	for (uint32_t place = thread->seen; place > ACCOUNT_SEEN_END;) {
		struct trace_counter *counter = counter_at(place);
		place = counter->next_seen;
		counter->next_seen = 0;
		account_forget(counter);
		if (unlikely(counter->route == TRACE_ROUTE_DEMOTED) && is_proven(counter))
			__atomic_fetch_and(&counter->route, (uint16_t)~TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
	}
	thread->seen = 0;
}

/* What of a limit holds with stacks=none, where sizes have an entry each up to a limit of their own. */
static size_t class_limit(const struct thread *thread, size_t max)
{
	return !thread->classes ? 0 : max < SITE_STEPPED_MAX ? max : SITE_STEPPED_MAX;
}

void scope_settle(struct thread *thread)
{
	/* A byte that was just stored is not loaded together with its neighbour: that would wait for the store. */
	unsigned in_frame = thread->in_frame, in_task = thread->task != NULL;
	__asm__("" : "+r"(in_frame));
	thread->in_task = in_task;
	thread->birth_shift = in_frame | in_task ? 0 : 2;
	bool quick = runtime.mode != TRACE_MODE_OBSERVE && !in_task && !events_area && !thread->frame_paused,
	     pool = in_frame || thread->role >= TRACE_ROLE_WORKER;
	thread->bump_max = quick & in_frame ? runtime.frame_block_max : 0;
	thread->bump_class_max = class_limit(thread, thread->bump_max);
	thread->small_max = !quick || (in_frame && thread->role == TRACE_ROLE_NONE) ? 0
			    : pool                                                  ? runtime.pool_block_max
										    : POOL_HEAP_MAX;
	thread->small_tier = pool ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
	thread->small_tag = (uint16_t)((in_frame ? BLOCK_IN_SCOPE : 0) | BLOCK_TIER(TRACE_TIER_POOL) |
				       BLOCK_ACCOUNT(thread->small_tier));
	thread->small_class_max = class_limit(thread, thread->small_max);
	thread->small_sums = &thread->record->tier[thread->small_tier];
	thread->small_peak_at = thread->peak_at[thread->small_tier];
	thread->small_outside = !in_frame;
	thread->small_base = block_state_base(thread->small_tag);
	thread->small_route = in_frame ? TRACE_ROUTE_DEMOTED : 0;
	unsigned plain = in_frame << 8 | thread->small_tier;
	if (!thread->frame_paused && unlikely(thread->plain_births != plain)) {
		account_forget_seen(thread);
		thread->plain_births = (uint16_t)plain;
	}
	thread->small_caches = thread->slabs[thread->small_tier].cache;
}

const struct trace_counter class_unused = {.route = UINT16_MAX};

static cold_path void begin_classes(struct thread_class *classes)
{
	for (uint32_t i = 0; i < SITE_PLACES; i++)
		classes[i].counter = &class_unused;
}

static always_inline void choose_classes(struct thread *thread)
{
	if (!thread->class_table)
		return;
	struct thread_class *classes =
		thread->class_table + (thread->role * POLICY_REGIONS_MAX + thread->tag) * SITE_PLACES;
	if (unlikely(!classes[SITE_PLACES - 1].counter))
		begin_classes(classes);
	thread->classes = classes;
}

void thread_choose_classes(struct thread *thread)
{
	choose_classes(thread);
}

/* What was allocated since the last call belongs to the present region. Before thread->tag changes. */
static always_inline void account_tag(struct thread *thread)
{
	uint64_t now = tag_bytes_so_far(thread);
	thread->tag_bytes[thread->tag] += now - thread->tag_from;
	thread->tag_from = now;
}

void tag_frame_begin(struct thread *thread)
{
	thread->tag_from = tag_bytes_so_far(thread);
	for (uint32_t tag = 0; tag < policy_in_force.region_count; tag++)
		thread->tag_bytes[tag] = 0;
}

static void tell_over(void *thread, void *tag)
{
	uint32_t number = (uint32_t)(uintptr_t)tag;
	const struct trace_tag *record = trace_at(&trace_tags, number);
	violation_budget(thread, number, 0, ((struct thread *)thread)->tag_bytes[number], record->budget_bytes);
}

void tag_frame_end(struct thread *thread)
{
	account_tag(thread);
	for (uint32_t tag = 1; tag < policy_in_force.region_count && tag < trace_count(&trace_tags); tag++) {
		struct trace_tag *record = trace_at(&trace_tags, tag);
		uint64_t bytes = thread->tag_bytes[tag];
		if (bytes > record->frame_bytes_max)
			record->frame_bytes_max = bytes;
		if (likely(!record->budget_bytes || bytes <= record->budget_bytes))
			continue;
		trace_add(&record->frames_over, 1);
		patch_guarded(tell_over, thread, (void *)(uintptr_t)tag);
	}
}

void scope_await(struct thread *thread)
{
	if (thread->task)
		thread->task->awaits++;
	else
		thread->awaits++;
	new_segment(thread);
}

void scope_pause(struct thread *thread)
{
	if (!thread->in_frame)
		return;
	task_account(thread);
	thread->frame_paused = true;
	thread->in_frame = false;
	thread->frame_base = 0;
	scope_settle(thread);
	thread_new_segment(thread);
}

void scope_resume_paused(struct thread *thread)
{
	task_account(thread);
	thread->frame_paused = false;
	thread->in_frame = true;
	thread->frame_base = (uint64_t)thread->frame << 32;
	scope_settle(thread);
	thread_new_segment(thread);
}

void scope_tag(struct thread *thread, uint32_t tag)
{
	account_tag(thread);
	thread->tag = tag;
	choose_classes(thread);
	new_segment(thread);
}
