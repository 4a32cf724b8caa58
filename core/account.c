/* The slow parts of the accounts: per-frame counts and peaks. */
#include "core/account.h"

#include "core/counter.h"
#include "core/region/region.h"
#include "core/scope.h"
#include "core/slot.h"
#include "core/violation.h"

#define PEAK_STEP_MIN 2048
#define PEAK_STEPS 256 /* of a peak */
#define SNAPSHOT_SITE_BYTES 64u
#define FRAME_UNSEEN (trace_header->tier_footprint_bytes[TRACE_TIER_FRAME] ? REGION_CHUNK_BYTES : 0)

/* What it may do unseen: one birth, at least. */
static int32_t births_until_hot(void)
{
	return runtime.hot_loop >= INT32_MAX ? INT32_MAX : runtime.hot_loop ? (int32_t)runtime.hot_loop : 1;
}

void account_seen(struct thread *thread, struct trace_counter *counter)
{
	bool first = !counter->next_seen;
	int32_t left = INT32_MAX;
	account_forget(counter);
	unsigned plain = TRACE_BIRTH_FRAME_IN; /* not by birth_shift: that is a task's, inside one */
	if (counter->route || !thread->in_frame)
		plain = thread->small_tier + (thread->in_frame ? 0u : 2u);
	if (first) {
		counter->next_seen = thread->seen ? thread->seen : ACCOUNT_SEEN_END;
		thread->seen = counter_place(counter);
	}
	if (thread->frame_base && first) {
		counter->frame = thread->frame;
		/* Negative where it has freed more of others' than it has made. */
		counter->old_at_frame = (trace_counter_births_in_scopes(counter) - counter->died_in_segment -
					 counter->died_in_frame - counter->crossed_await - counter->died_elsewhere) &
					~TRACE_HOT_TOLD;
		left = births_until_hot();
	} else if (thread->frame_base && !(counter->old_at_frame & TRACE_HOT_TOLD) && runtime.hot_loop < INT32_MAX) {
		counter->old_at_frame |= TRACE_HOT_TOLD;
		violation_threshold(thread, 602, counter->site, runtime.hot_loop + 1, runtime.hot_loop);
	}
	account_grant(counter, plain, left);
}

void account_heap_in_frame(struct thread *thread, struct trace_counter *counter)
{
	uint64_t heap_count = counter->heap_frame_count + 1;
	if ((heap_count ^ thread->frame_base) >> 32)
		heap_count = thread->frame_base + 1;
	counter->heap_frame_count = heap_count;
	if ((uint32_t)heap_count == (uint32_t)runtime.heap_hot + 1)
		violation_threshold(thread, 530, counter->site, (uint32_t)heap_count, runtime.heap_hot);
}

void account_footprint(enum trace_tier tier, int64_t bytes)
{
	uint64_t now = __atomic_add_fetch(&trace_header->tier_footprint_bytes[tier], (uint64_t)bytes, __ATOMIC_RELAXED);
	if (bytes > 0 && now > trace_header->tier_footprint_peak_bytes[tier])
		trace_header->tier_footprint_peak_bytes[tier] = now;
}

static int64_t step_of(uint64_t peak)
{
	return peak / PEAK_STEPS > PEAK_STEP_MIN ? (int64_t)(peak / PEAK_STEPS) : PEAK_STEP_MIN;
}

/* Writes each site's live bytes as of now: the process stands higher than ever before. */
static void snapshot_sites(void)
{
	uint32_t sites = trace_count(&trace_sites), groups = trace_count(&trace_labels);
	for (uint32_t i = 0; i < sites; i++) {
		struct trace_site *site = trace_at(&trace_sites, i);
		site->live_bytes_at_peak = site->live_blocks_at_peak = 0;
	}
	for (uint32_t g = 0; g < groups; g++) {
		const struct trace_group_label *label = trace_at(&trace_labels, g);
		const struct trace_group *group = trace_at(&trace_groups, g);
		for (uint32_t i = 0; i < TRACE_GROUP_SITES && label->first_site + i < sites; i++) {
			const struct trace_counter *c = &group->counter[i];
			struct trace_site *site = trace_at(&trace_sites, label->first_site + i);
			uint64_t births = 0;
			for (int b = 0; b < TRACE_BIRTH_COUNT; b++)
				births += trace_counter_births(c, b);
			site->live_bytes_at_peak += (uint64_t)trace_counter_live(c);
			site->live_blocks_at_peak += births - c->died_in_segment - c->died_in_segment_outside -
						     c->died_in_frame - c->outlived_frame - c->died_outside -
						     c->crossed_await - c->died_elsewhere;
		}
	}
}

/* How much higher the process must stand for the next one: a fiftieth, and no less than pays for reading each site's counters.
   A program that starts up with thousands of sites would do little else. */
static uint64_t snapshot_step(uint64_t peak)
{
	uint64_t worth = (uint64_t)trace_count(&trace_sites) * SNAPSHOT_SITE_BYTES;
	return peak / 50 > worth ? peak / 50 : worth;
}

/*
 * Peaks of the process. Each thread has said how much it may have alive of each tier (`peak_said`), and passes that by less than
 * a step (`peak_at`) without a word; then it looks at what all have, and says more. Since threads may free and allocate again
 * unseen, what matters is the sum of what they said: as long as it is no more than the peak and a step for each, no peak is
 * missed by more than two steps each. When it would be, it is said for the others that they have what they have, so that each
 * looks before it has more.
 */
static struct {
	struct base_lock lock;
	int64_t said[TRACE_TIERS]; /* sums, at least */
	uint64_t snapshot_at; /* peak that the last snapshot was taken at */
} peaks;

void account_begin_recording(void)
{
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		peaks.said[tier] = 0;
	peaks.snapshot_at = 0;
}

void account_forget_peak(struct thread *thread)
{
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		thread->peak_said[tier] = thread->peak_at[tier] = 0;
	thread->small_peak_at = 0;
}

/* Lock held. Reads what is alive by tier, and keeps it if it is more than ever. */
static void look_at_all(int64_t live[TRACE_TIERS])
{
	int64_t total = 0;
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		live[tier] = 0;
	for (uint32_t i = 0; i < trace_count(&trace_threads); i++) {
		const struct trace_thread *record = trace_at(&trace_threads, i);
		for (int tier = 0; tier < TRACE_TIERS; tier++)
			live[tier] += record->tier[tier].live_bytes;
	}
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		total += live[tier];
		if (live[tier] > (int64_t)trace_header->tier_peak_bytes[tier])
			trace_header->tier_peak_bytes[tier] = (uint64_t)live[tier];
	}
	if (total <= (int64_t)trace_header->peak_bytes)
		return;
	trace_header->peak_bytes = (uint64_t)total;
	trace_header->peak_error_bytes =
		(2 * (uint64_t)step_of((uint64_t)total) * TRACE_TIERS + FRAME_UNSEEN) * slot_count();
	if ((uint64_t)total > peaks.snapshot_at + snapshot_step(peaks.snapshot_at)) {
		peaks.snapshot_at = (uint64_t)total;
		trace_header->peak_ns = base_now_ns();
		snapshot_sites();
	}
}

/* Lock held. Nobody has said more than is alive. */
static void say_what_is(struct thread *own, const int64_t live[TRACE_TIERS])
{
	for (uint32_t slot = 0; slot < slot_count(); slot++) {
		struct thread *thread = slot_at(slot);
		if (!thread || !thread->record)
			continue;
		for (int tier = 0; tier < TRACE_TIERS; tier++) {
			thread->peak_said[tier] = thread->record->tier[tier].live_bytes;
			if (thread != own)
				__atomic_store_n(&thread->peak_at[tier], thread->peak_said[tier], __ATOMIC_RELAXED);
		}
		if (thread != own)
			__atomic_store_n(&thread->small_peak_at, thread->peak_at[thread->small_tier], __ATOMIC_RELAXED);
	}
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		peaks.said[tier] = live[tier];
}

struct account_level account_level(void)
{
	if (!trace_header)
		return (struct account_level){0};
	int64_t live = 0;
	for (uint32_t i = 0; i < trace_count(&trace_threads); i++)
		live += trace_thread_sums(trace_at(&trace_threads, i)).live_bytes;
	return (struct account_level){.live_bytes = live > 0 ? (uint64_t)live : 0,
				      .peak_bytes = trace_header->peak_bytes};
}

static int64_t half_of(int64_t a, int64_t b)
{
	int64_t less = a < b ? a : b;
	return less > 0 ? less / 2 : 0;
}

/* Lock held. The thread says what it has, and half of what is missing to the peaks besides. False: it has too much. */
static bool say_more(struct thread *thread, int64_t step)
{
	int64_t slots = slot_count(), missing = (int64_t)trace_header->peak_bytes, missing_tier[TRACE_TIERS];
	bool fits = true;
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		int64_t said = peaks.said[tier] - thread->peak_said[tier] + thread->record->tier[tier].live_bytes;
		missing_tier[tier] = (int64_t)trace_header->tier_peak_bytes[tier] - said;
		missing -= said;
		fits &= missing_tier[tier] >= -slots * step;
	}
	if (!fits || missing < -slots * TRACE_TIERS * step)
		return false;
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		int64_t more = half_of(missing_tier[tier], missing),
			said = thread->record->tier[tier].live_bytes + more;
		missing -= more;
		peaks.said[tier] += said - thread->peak_said[tier];
		thread->peak_said[tier] = said;
		thread->peak_at[tier] = said + step;
	}
	return true;
}

void account_peak(struct thread *thread)
{
	if (base_lock(&peaks.lock)) {
		int64_t live[TRACE_TIERS];
		look_at_all(live);
		int64_t step = step_of(trace_header->peak_bytes);
		if (!say_more(thread, step)) {
			say_what_is(thread, live);
			(void)say_more(thread, step); /* the sums are no more than the peaks now */
		}
		thread->small_peak_at = thread->peak_at[thread->small_tier];
		base_unlock(&peaks.lock);
	}
	scope_end_abandoned(thread);
	scope_check_never_ends(thread);
}
