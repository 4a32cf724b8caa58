/*
 * The accounts: what each birth and each death adds to the counters of the recording. Counters are plain words of the
 * calling thread's own slot and record, written in place: they are complete up to a kill at any instruction.
 */
#ifndef FA_ACCOUNT_H
#define FA_ACCOUNT_H

#include "core/runtime.h"
#include "core/thread.h"
#include "core/trace/writer.h"

/* Stores to one cache line, done one after the other, leave the processor together: they are not to be mixed. */
static always_inline void account_next_line(void)
{
	__asm__ volatile("" ::: "memory");
}

/* The site is seen for the first time since the frame began, or has used up what it may do unseen (FA602). */
void account_seen(struct thread *thread, struct trace_counter *counter);
/* What plain births are changes, or a frame begins: every site is to be seen again. In scope_switch.c. */
void account_forget_seen(struct thread *thread);
/* The same for one site. The order of the stores is what format.h says. */
static always_inline void account_forget(struct trace_counter *counter)
{
	int birth = counter->plain_birth & ~TRACE_PLAIN_PHASE;
	if (trace_counter_counts_down(counter, birth))
		counter->births[birth] = (counter->births[birth] + trace_counter_plain(counter)) ^ TRACE_BIRTHS_PHASE;
	account_next_line();
	counter->births_left = counter->births_given = 0;
}

/* It has been forgotten; `left` births of a kind may be plain ones from now on. */
static always_inline void account_grant(struct trace_counter *counter, unsigned birth, int32_t left)
{
	counter->births_left = counter->births_given = left;
	account_next_line();
	counter->plain_birth = (uint8_t)(birth | (counter->births[birth] >> 63) * TRACE_PLAIN_PHASE);
}
#define ACCOUNT_SEEN_END 1u /* of the chain: no counter lies there */
/* FA530: a heap-tier birth inside a frame. */
void account_heap_in_frame(struct thread *thread, struct trace_counter *counter);
/* This thread's live bytes have passed a mark at which the process's peaks are looked at. */
cold_path void account_peak(struct thread *thread);
/* A tier has taken spans or slabs, or given them back. Any thread. */
void account_footprint(enum trace_tier tier, int64_t bytes);
/* Usable bytes of all tiers and threads that live, and the most that have. Any thread. Cost: a line for each thread there was. */
struct account_level {
	uint64_t live_bytes, peak_bytes;
};
struct account_level account_level(void);
/* A thread begins, whose record is new. */
void account_forget_peak(struct thread *thread);
/* There are no peaks: at the start, and in a child that records on its own. */
void account_begin_recording(void);

/* What the fast and the general path have in common. Cost: five read-modify-writes of hot lines, one branch. */
static always_inline void account_birth_sums(struct trace_counter *counter, struct trace_sums *sums, size_t size,
					     size_t usable)
{
	counter->bytes += size;
	if (unlikely((counter->headroom_bytes -= (int64_t)usable) < 0)) {
		counter->peak_bytes -= counter->headroom_bytes;
		counter->headroom_bytes = 0;
	}
	account_next_line();
	sums->allocs++;
	sums->bytes += size;
	sums->live_bytes += (int64_t)usable;
	account_next_line();
}

/* A plain birth, which is counted by this. False: it is none, account_seen must come first. */
static always_inline bool account_plain(struct trace_counter *counter)
{
	return likely(--counter->births_left >= 0);
}

/* The frame tier's peak is looked at where it takes another span. */
static always_inline void account_birth(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
					uint32_t birth, size_t size)
{
	if (!thread->frame_paused) {
		if (unlikely(counter->births_left <= 0))
			account_seen(thread, counter);
		counter->births_left--;
		counter->births_given--;
	}
	counter->births[birth]++;
	if (unlikely(thread->in_task)) {
		counter->task_alive++;
		counter->in_tasks = 1;
	}
	struct trace_sums *sums = &thread->record->tier[tier];
	account_birth_sums(counter, sums, size, block_usable(size));
	if (unlikely(sums->live_bytes > thread->peak_at[tier]))
		account_peak(thread);
}

static always_inline void account_death(struct trace_counter *counter, struct trace_sums *sums, size_t usable)
{
	counter->headroom_bytes += (int64_t)usable;
	account_next_line();
	sums->frees++;
	sums->live_bytes -= (int64_t)usable;
	account_next_line();
}

#endif
