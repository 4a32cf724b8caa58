/* A frame ends and the next begins. Inside a patched function: general registers only, and what few frames have to settle
   through the guard. */
#include "core/account.h"
#include "core/clock.h"
#include "core/events.h"
#include "core/frames.h"
#include "core/mark/mark.h"
#include "core/node.h"
#include "core/own.h"
#include "core/policy.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/slot.h"
#include "core/tag.h"
#include "core/task.h"
#include "core/tier/frame.h"
#include "core/tier/remote.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define TRIM_PERIOD_NS 1000000000u
#define LOOK_FRAMES 64u /* spans that so many frames had no need of serve others, slow frames are looked at by time */
#define PATH_FRAMES 1024u

static _Atomic uint64_t given_budget; /* by the API, + 1; 0: none was */

void scope_budget_set(uint64_t bytes)
{
	atomic_store(&given_budget, bytes < UINT64_MAX ? bytes + 1 : bytes);
}

static uint64_t frame_budget(void)
{
	uint64_t given = atomic_load_explicit(&given_budget, memory_order_relaxed);
	return unlikely(given) ? given - 1 : runtime.frame_budget;
}

static bool is_over(uint64_t bytes, uint64_t budget)
{
	return unlikely(budget) && bytes > budget;
}

/* What the frame owns ends, and what others have freed comes back. */
static void come_home(void *given, void *unused)
{
	struct thread *thread = given;
	(void)unused;
	if (thread->frame_block_count || thread->frame_owned.newest)
		own_end_frame(thread, NULL);
	remote_flush(thread);
	uint64_t backlog = remote_backlog(thread);
	remote_drain(thread);
	thread->record->remote_frees_waiting = backlog;
	if (backlog > runtime.options.threshold[TRACE_THRESHOLD_REMOTE_BACKLOG])
		violation_threshold(thread, 204, 0, backlog, runtime.options.threshold[TRACE_THRESHOLD_REMOTE_BACKLOG]);
}

/* Of a frame that has allocated so many bytes: its budgets, and the blocks that pin what it has filled. */
static void judge(void *given, void *bytes_made)
{
	struct thread *thread = given;
	uint64_t bytes = *(uint64_t *)bytes_made;
	if (is_over(bytes, frame_budget()))
		violation_budget(thread, 0, 0, bytes, frame_budget());
	if (is_over(bytes, policy_in_force.role_budget_bytes[thread->role]))
		violation_budget(thread, 0, thread->role, bytes, policy_in_force.role_budget_bytes[thread->role]);
	frame_judge(thread, scope_survivor);
}

static void announce(void *thread, void *begins)
{
	events_frame(thread, begins);
}

static always_inline struct thread_edge edge_here(const struct trace_thread *record)
{
	struct trace_sums sums = trace_thread_sums(record);
	struct thread_edge edge = {.bytes = sums.bytes, .frees = sums.frees, .live_bytes = sums.live_bytes};
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		edge.allocs[tier] = record->tier[tier].allocs;
	return edge;
}

/* Settles the open frame; `now` ends it. Returns the totals at its end. */
static always_inline struct thread_edge end_frame(struct thread *thread, uint64_t now)
{
	struct trace_thread *record = thread->record;
	record->remote_frees_waiting = 0;
	if (unlikely(thread->frame_block_count || thread->frame_owned.newest || thread->gathered_count ||
		     remote_waits(thread)))
		patch_guarded(come_home, thread, NULL);
	struct thread_edge edge = edge_here(record);
	uint64_t bytes = edge.bytes - thread->at_frame.bytes;
	size_t pinned = frame_rewind(thread);
	if (unlikely(is_over(bytes, frame_budget()) ||
		     is_over(bytes, policy_in_force.role_budget_bytes[thread->role]) || frame_is_to_judge(thread)))
		patch_guarded(judge, thread, &bytes);
	if (unlikely(policy_in_force.region_count))
		tag_frame_end(thread);
	if (unlikely(thread->task != NULL))
		task_account(thread);
	int64_t frame_live = record->tier[TRACE_TIER_FRAME].live_bytes;
	if (frame_live > (int64_t)record->frame_live_peak_bytes)
		record->frame_live_peak_bytes = (uint64_t)frame_live;
	frames_record(thread, now, &edge, pinned);
	if (unlikely(events_area != NULL))
		patch_guarded(announce, thread, NULL);
	if (thread->demoted_count)
		scope_judge_demotions(thread);
	return edge;
}

static always_inline void begin_frame(struct thread *thread, uint64_t now, struct thread_edge edge)
{
	struct trace_thread *record = thread->record;
	thread->frame++;
	thread->frame_base = (uint64_t)thread->frame << 32;
	if (thread->seen)
		account_forget_seen(thread);
	if (!thread->in_frame) {
		thread->in_frame = true;
		scope_settle(thread);
	}
	thread->at_frame = edge;
	thread->slow_frees = 0;
	thread->other_blocks = 0;
	thread->frame_violations = 0;
	atomic_store_explicit(&thread->own_deaths_remote, 0, memory_order_relaxed);
	record->open_begin_ns = now;
	__atomic_store_n(&record->frames, record->frames + 1, __ATOMIC_RELEASE);
	if (unlikely(policy_in_force.region_count))
		tag_frame_begin(thread);
	if (unlikely(events_area != NULL))
		patch_guarded(announce, thread, thread);
	thread_new_segment(thread);
}

void scope_frame_end(struct thread *thread)
{
	scope_resume(thread);
	if (!thread->in_frame)
		return;
	uint64_t now = clock_now(&thread->clock);
	end_frame(thread, now);
	thread->in_frame = false;
	thread->frame_base = 0;
	scope_settle(thread);
	trace_header->last_ns = now;
	__atomic_store_n(&thread->record->open_begin_ns, 0, __ATOMIC_RELEASE);
	thread_new_segment(thread);
}

/* The same call in the same place: the call path is the same unless a caller further out changed, which is looked at anew
   now and then. */
static bool boundary_path_known(const struct thread *thread, const uintptr_t *fp)
{
	return likely(fp[1] == thread->boundary_return && (uintptr_t)fp == thread->boundary_stack &&
		      thread->frame % PATH_FRAMES);
}

static void learn_boundary_path(void *given, void *at)
{
	struct thread *thread = given;
	const uintptr_t *fp = at;
	thread->boundary_node = node_of_call(thread, fp);
	thread->boundary_return = fp[1];
	thread->boundary_stack = (uintptr_t)fp;
}

static void forget_paths(void *thread, void *unused)
{
	(void)unused;
	slot_forget_paths(thread);
}

/* What is done now and then. */
static void look_around(void *given, void *now)
{
	struct thread *thread = given;
	if (!(thread->frame % PATH_FRAMES))
		slot_note_path_stats();
	if (thread->at_frame.live_bytes > thread->boundary_live_max) {
		thread->boundary_live_max = thread->at_frame.live_bytes;
		account_peak(thread);
	} else if (!(thread->frame % LOOK_FRAMES)) {
		account_peak(thread);
		frame_trim(thread);
	}
	uint64_t now_ns = *(uint64_t *)now;
	if (now_ns <= thread->look_at_ns)
		return;
	bool more = region_span_purge(now_ns);
	if (now_ns > thread->trim_at_ns) {
		if (thread->trim_at_ns)
			frame_trim(thread);
		thread->trim_at_ns = now_ns + TRIM_PERIOD_NS;
	}
	thread->look_at_ns = more ? now_ns : thread->trim_at_ns;
}

void scope_frame_boundary(struct thread *thread, uint32_t marker, const uintptr_t *fp)
{
	uint64_t now = clock_now(&thread->clock);
	struct thread_edge edge;
	scope_resume(thread);
	if (fp && !boundary_path_known(thread, fp))
		patch_guarded(learn_boundary_path, thread, (void *)fp);
	if (likely(thread->in_frame)) {
		edge = end_frame(thread, now);
	} else {
		if (trace_header->losses[TRACE_LOSS_SITES])
			patch_guarded(forget_paths, thread, NULL);
		edge = edge_here(thread->record);
	}
	thread->record->boundary_marker = marker + 1;
	thread->boundary_ns = now;
	begin_frame(thread, now, edge);
	trace_header->last_ns = now;
	if (unlikely(!(thread->frame % LOOK_FRAMES) || thread->at_frame.live_bytes > thread->boundary_live_max ||
		     now > thread->look_at_ns))
		patch_guarded(look_around, thread, &now);
}

void scope_idle_end(struct thread *thread)
{
	uint64_t now = clock_now(&thread->clock);
	thread->record->idle_ns += now - thread->boundary_ns;
	if (thread->in_frame)
		thread->record->open_begin_ns = now;
}
