/*
 * The accounts: what each birth and each death adds to the counters of the recording. Counters are plain words of the
 * calling thread's own slot and record, written in place: they are complete up to a kill at any instruction.
 */
#ifndef FA_ACCOUNT_H
#define FA_ACCOUNT_H

#include "core/runtime.h"
#include "core/thread.h"
#include "core/trace/writer.h"

/* A site's first birth in a frame, or the birth that makes it a hot loop (FA602). */
void account_frame_count_slow(struct thread *thread, struct trace_counter *counter, uint32_t site);
/* FA530: a heap-tier birth inside a frame. */
void account_heap_in_frame(struct thread *thread, struct trace_counter *counter, uint32_t site);
/* This thread's live bytes passed the mark at which the process's peaks are looked at again. */
void account_peak(struct thread *thread);
/* Marks are set anew, a little above what is live now: at markers. */
void account_peak_rearm(struct thread *thread);

/* Counts a birth in the open frame. */
static always_inline void account_frame_count(struct thread *thread, struct trace_counter *counter, uint32_t site)
{
	uint64_t count = counter->frame_count + 1;
	if (likely(count - thread->frame_base <= runtime.hot_loop))
		counter->frame_count = count;
	else
		account_frame_count_slow(thread, counter, site);
}

/* What the fast and the general path have in common. */
static always_inline void account_birth_sums(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                             uint32_t birth, size_t size, size_t usable)
{
	counter->births[birth]++;
	counter->bytes += size;
	counter->usable_bytes += usable;
	struct trace_thread *record = thread->record;
	record->allocs[tier]++;
	record->bytes[tier] += size;
	record->usable_bytes[tier] += usable;
}

/* Cost: seven read-modify-writes of hot lines, two compares, no atomics. The frame tier's peak is looked at where it takes
   another span. */
static always_inline void account_birth(struct thread *thread, struct trace_counter *counter, uint32_t site,
                                        enum trace_tier tier, uint32_t birth, size_t size)
{
	account_birth_sums(thread, counter, tier, birth, size, block_usable(size));
	if (thread->frame_base)
		account_frame_count(thread, counter, site);
	if (unlikely(trace_thread_live(thread->record, tier) > thread->peak_at[tier]))
		account_peak(thread);
}

static always_inline void account_death(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                        size_t size)
{
	size_t usable = block_usable(size);
	int64_t live = trace_counter_live(counter);
	if (unlikely(live > counter->peak_bytes))
		counter->peak_bytes = live;
	counter->frees_bytes += usable;
	thread->record->frees[tier]++;
	thread->record->frees_bytes[tier] += usable;
}

#endif
