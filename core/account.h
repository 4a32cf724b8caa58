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

/* Cost: eight read-modify-writes of hot lines, three compares, no atomics. */
static always_inline void account_birth(struct thread *thread, struct trace_counter *counter, uint32_t site,
                                        enum trace_tier tier, uint32_t birth, size_t size)
{
	size_t usable = block_usable(size);
	counter->births[birth]++;
	counter->bytes += size;
	counter->live_bytes += (int64_t)usable;
	uint64_t frame_count = counter->frame_count + 1;
	if (likely((frame_count ^ thread->frame_base) >> 32 == 0 && (uint32_t)frame_count != (uint32_t)runtime.hot_loop + 1))
		counter->frame_count = frame_count;
	else
		account_frame_count_slow(thread, counter, site);

	struct trace_thread *record = thread->record;
	record->allocs[tier]++;
	record->bytes[tier] += size;
	record->live_bytes[tier] += (int64_t)usable;
	if (unlikely(record->live_bytes[tier] > thread->peak_at[tier]))
		account_peak(thread);
}

static always_inline void account_death(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                        size_t size)
{
	int64_t usable = (int64_t)block_usable(size);
	if (counter->live_bytes > counter->peak_bytes)
		counter->peak_bytes = counter->live_bytes;
	counter->live_bytes -= usable;
	counter->frees_bytes += (uint64_t)usable;
	thread->record->frees[tier]++;
	thread->record->live_bytes[tier] -= usable;
}

#endif
