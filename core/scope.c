/* Frame boundaries and what is settled at them: the frame's record, its survivors, budgets, learned verdicts. */
#include "core/scope.h"

#include "core/account.h"
#include "core/events.h"
#include "core/frames.h"
#include "core/node.h"
#include "core/own.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/tag.h"
#include "core/task.h"
#include "core/tier/frame.h"
#include "core/tier/remote.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define TRIM_PERIOD_NS 1000000000u
#define TRIM_FRAMES 64u /* a power of 2: spans that so many frames had no need of serve others, slow frames are looked at by time */
#define DEMOTIONS_JUDGED 8u /* a boundary looks at this many demoted sites */

void scope_demote(struct thread *thread, uint32_t site)
{
	struct trace_counter *counter = thread_counter(thread, site);
	if (counter->route & TRACE_ROUTE_DEMOTED || thread->demoted_count == THREAD_DEMOTED_MAX)
		return;
	struct trace_site *record = trace_at(&trace_sites, site);
	struct thread_demotion *demotion = NULL;
	for (uint32_t i = 0; i < thread->demoted_count; i++)
		if (thread->demoted[i].site == site)
			demotion = &thread->demoted[i];
	if (!demotion) {
		demotion = &thread->demoted[thread->demoted_count++];
		*demotion = (struct thread_demotion){.site = site, .wait_frames = (uint32_t)runtime.promote_frames / 2};
	}
	demotion->wait_frames *= 2;
	demotion->since_frame = thread->frame;
	demotion->escaped = counter->outlived_frame + counter->died_elsewhere;
	demotion->births = trace_counter_births(counter, TRACE_BIRTH_POOL_IN);
	demotion->live_bytes = trace_counter_live(counter);
	account_forget(counter);
	__atomic_fetch_or(&counter->route, TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
	counter->pinned_bytes = 0;
	__atomic_fetch_add(&record->demotions, 1, __ATOMIC_RELAXED);
}

/* A demoted site returns when a whole window of frames saw enough of its blocks and none escaped. */
static void judge_demotions(struct thread *thread)
{
	for (uint32_t n = 0; n < DEMOTIONS_JUDGED && n < thread->demoted_count; n++) {
		struct thread_demotion *demotion = &thread->demoted[thread->demoted_cursor++ % thread->demoted_count];
		struct trace_counter *counter = thread_counter(thread, demotion->site);
		if (!(counter->route & TRACE_ROUTE_DEMOTED) || thread->frame - demotion->since_frame < demotion->wait_frames)
			continue;
		uint64_t escaped = counter->outlived_frame + counter->died_elsewhere;
		uint64_t births = trace_counter_births(counter, TRACE_BIRTH_POOL_IN);
		bool behaved = escaped == demotion->escaped && trace_counter_live(counter) <= demotion->live_bytes;
		if (behaved && births - demotion->births >= runtime.options.threshold[TRACE_THRESHOLD_MIN_SAMPLES]) {
			struct trace_site *record = trace_at(&trace_sites, demotion->site);
			account_forget(counter);
			__atomic_fetch_and(&counter->route, (uint16_t)~TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
			__atomic_fetch_add(&record->promotions, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (!behaved || births - demotion->births >= runtime.options.threshold[TRACE_THRESHOLD_MIN_SAMPLES]) {
			demotion->since_frame = thread->frame;
			demotion->escaped = escaped;
			demotion->births = births;
			demotion->live_bytes = trace_counter_live(counter);
		}
	}
}

/* A block that pins `share` bytes of its span at a frame's end. */
static void survivor(struct thread *thread, uint32_t site, size_t share)
{
	struct trace_counter *counter = thread_counter(thread, site);
	counter->pinned_bytes += share;
	/* A site that escapes now and then earns its place as long as it pins little of what it allocates. */
	if (!(counter->route & TRACE_ROUTE_DEMOTED) && counter->pinned_bytes >= runtime.demote_bytes && counter->pinned_bytes > counter->bytes / 4)
		scope_demote(thread, site);
}

static void begin_frame(struct thread *thread, uint64_t now)
{
	struct trace_thread *record = thread->record;
	thread->frame++;
	thread->frame_base = (uint64_t)thread->frame << 32;
	account_forget_seen(thread);
	if (!thread->in_frame) {
		thread->in_frame = true;
		scope_settle(thread);
	}
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		thread->at_frame.allocs[tier] = record->tier[tier].allocs;
	struct trace_sums sums = trace_thread_sums(record);
	thread->at_frame.bytes = sums.bytes;
	thread->at_frame.frees = sums.frees;
	thread->at_frame.live_bytes = trace_live(&sums);
	if (unlikely(policy_in_force.region_count))
		tag_frame_begin(thread);
	thread->slow_frees = 0;
	thread->other_blocks = 0;
	thread->frame_violations = 0;
	atomic_store_explicit(&thread->own_deaths_remote, 0, memory_order_relaxed);
	record->open_begin_ns = now;
	__atomic_store_n(&record->frames, record->frames + 1, __ATOMIC_RELEASE);
	events_frame(thread, true);
	thread_new_segment(thread);
}

static _Atomic uint64_t given_budget; /* by the API, + 1; 0: none was */

void scope_budget_set(uint64_t bytes)
{
	atomic_store(&given_budget, bytes < UINT64_MAX ? bytes + 1 : bytes);
}

static uint64_t scope_budget(void)
{
	uint64_t given = atomic_load_explicit(&given_budget, memory_order_relaxed);
	return unlikely(given) ? given - 1 : runtime.frame_budget;
}

static uint32_t clip(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

/* Settles the open frame. `now` ends it. */
static void end_frame(struct thread *thread, uint64_t now)
{
	struct trace_thread *record = thread->record;
	if (unlikely(thread->frame_block_count || thread->frame_owned.newest))
		own_end_frame(thread, NULL);
	remote_flush(thread);
	uint64_t backlog = remote_drain(thread);
	record->remote_frees_waiting = backlog;
	if (backlog > runtime.options.threshold[TRACE_THRESHOLD_REMOTE_BACKLOG])
		violation_threshold(thread, 204, 0, backlog, runtime.options.threshold[TRACE_THRESHOLD_REMOTE_BACKLOG]);
	struct trace_sums sums = trace_thread_sums(record);
	uint64_t bytes = sums.bytes - thread->at_frame.bytes;
	uint64_t budget = scope_budget();
	if (budget && bytes > budget)
		violation_budget(thread, 0, 0, bytes, budget);
	uint64_t role_budget = policy_in_force.role_budget_bytes[thread->role];
	if (unlikely(role_budget) && bytes > role_budget)
		violation_budget(thread, 0, thread->role, bytes, role_budget);
	if (unlikely(policy_in_force.region_count))
		tag_frame_end(thread);

	struct trace_frame frame = {.begin_ns = record->open_begin_ns,
	                            .end_ns = now,
	                            .bytes = bytes,
	                            .pinned_bytes = clip(frame_end(thread, survivor)),
	                            .number = thread->frame};
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		frame.allocs_tier[tier] = clip(record->tier[tier].allocs - thread->at_frame.allocs[tier]);
	frame.allocs = frame.allocs_tier[0] + frame.allocs_tier[1] + frame.allocs_tier[2];
	uint64_t frees = sums.frees - thread->at_frame.frees;
	frame.frees = clip(frees);
	task_account(thread);
	int64_t escapes = (int64_t)frame.allocs - (int64_t)(frees - thread->slow_frees) - thread->other_blocks -
	                  (int64_t)atomic_load_explicit(&thread->own_deaths_remote, memory_order_relaxed);
	frame.escapes = escapes > 0 ? clip((uint64_t)escapes) : 0;
	frame.violations = clip(thread->frame_violations);
	frame.live_kib = clip(account_live() / 1024);
	int64_t frame_live = trace_live(&record->tier[TRACE_TIER_FRAME]);
	if (frame_live > (int64_t)record->frame_live_peak_bytes)
		record->frame_live_peak_bytes = (uint64_t)frame_live;
	frames_append(thread, &frame);
	events_frame(thread, false);
	judge_demotions(thread);
}

void scope_frame_end(struct thread *thread)
{
	scope_resume(thread);
	if (!thread->in_frame)
		return;
	uint64_t now = base_now_ns();
	end_frame(thread, now);
	thread->in_frame = false;
	thread->frame_base = 0;
	scope_settle(thread);
	trace_header->last_ns = now;
	__atomic_store_n(&thread->record->open_begin_ns, 0, __ATOMIC_RELEASE);
	thread_new_segment(thread);
}

void scope_frame_boundary(struct thread *thread, uint32_t marker, const uintptr_t *fp)
{
	uint64_t now = base_now_ns();
	scope_resume(thread);
	/* The same call in the same place: the call path is the same unless a caller further out changed, which is
	   looked at anew now and then. */
	if (fp && (fp[1] != thread->boundary_return || (uintptr_t)fp != thread->boundary_stack || !(thread->frame & 1023))) {
		thread->boundary_node = node_of_call(thread, fp);
		thread->boundary_return = fp[1];
		thread->boundary_stack = (uintptr_t)fp;
	}
	if (thread->in_frame)
		end_frame(thread, now);
	else if (trace_header->losses[TRACE_LOSS_SITES])
		thread_forget_paths(thread);
	thread->record->boundary_marker = marker + 1;
	begin_frame(thread, now);
	trace_header->last_ns = now;
	if (unlikely(!(thread->frame & 1023)))
		thread_note_path_stats();
	struct trace_sums sums = trace_thread_sums(thread->record);
	int64_t live = trace_live(&sums);
	if (unlikely(live > thread->boundary_live_max)) {
		thread->boundary_live_max = live;
		account_peak(thread);
	} else if (unlikely(!(thread->frame & 15))) {
		account_peak(thread);
		if (!(thread->frame & (TRIM_FRAMES - 1)))
			frame_trim(thread);
	}
	if (now > thread->trim_at_ns) {
		if (thread->trim_at_ns)
			frame_trim(thread);
		thread->trim_at_ns = now + TRIM_PERIOD_NS;
		static _Atomic uint64_t purge_at;
		uint64_t due = atomic_load_explicit(&purge_at, memory_order_relaxed);
		if (now > due && atomic_compare_exchange_strong(&purge_at, &due, now + TRIM_PERIOD_NS) && due)
			region_span_purge();
	}
}

void scope_await_path(struct thread *thread, const uintptr_t *fp)
{
	if (scope_await_path_known(thread, fp))
		return;
	thread->await_node = node_of_call(thread, fp);
	thread->await_return = fp[1];
	thread->await_stack = (uintptr_t)fp;
}

void scope_idle_begin(struct thread *thread)
{
	thread->idle_from_ns = base_now_ns();
}

void scope_idle_end(struct thread *thread)
{
	uint64_t now = base_now_ns();
	thread->record->idle_ns += now - thread->idle_from_ns;
	if (thread->in_frame)
		thread->record->open_begin_ns = now;
}

void scope_end_abandoned(struct thread *thread)
{
	if (likely(!atomic_load_explicit(&thread->frame_abandoned, memory_order_relaxed)))
		return;
	atomic_store_explicit(&thread->frame_abandoned, false, memory_order_relaxed);
	if (thread->api_frames)
		return;
	scope_frame_end(thread);
	role_set(thread, TRACE_ROLE_NONE);
}

void scope_check_never_ends(struct thread *thread)
{
	const struct trace_thread *record = thread->record;
	if (!thread->in_frame || thread->frame < 2 || thread->never_ends_frame == thread->frame)
		return;
	struct trace_sums sums = trace_thread_sums(record);
	int64_t piled = trace_live(&sums) - thread->at_frame.live_bytes;
	uint64_t limit = runtime.options.threshold[TRACE_THRESHOLD_NEVER_ENDS_BYTES];
	uint64_t limit_ns = runtime.options.threshold[TRACE_THRESHOLD_NEVER_ENDS_MS] * 1000000u;
	if (piled <= (int64_t)limit || base_now_ns() - record->open_begin_ns <= limit_ns)
		return;
	thread->never_ends_frame = thread->frame;
	violation_threshold(thread, 604, 0, (uint64_t)piled, limit);
}
