/*
 * The accounts: what each birth and each death adds to the counters of the recording. Counters are plain words of the
 * calling thread's own slot and record, written in place: they are complete up to a kill at any instruction.
 */
#ifndef FA_ACCOUNT_H
#define FA_ACCOUNT_H

#include "core/runtime.h"
#include "core/thread.h"
#include "core/trace/writer.h"

/* The site is seen for the first time since the frame began, or has used up what it may do unseen (FA602). */
cold_path void account_seen(struct thread *thread, struct trace_counter *counter);
/* A frame begins or ends: every site is to be seen again. */
void account_forget_seen(struct thread *thread);
/* FA530: a heap-tier birth inside a frame. */
void account_heap_in_frame(struct thread *thread, struct trace_counter *counter);
/* This thread's live bytes may have passed the mark at which the process's peaks are looked at again. */
cold_path void account_look(struct thread *thread, enum trace_tier tier);
void account_peak(struct thread *thread);
/* Marks are set anew, a little above what is live now: at markers. */
void account_peak_rearm(struct thread *thread);

/* What the fast and the general path have in common. Cost: six read-modify-writes of hot lines, one branch. */
static always_inline void account_birth_sums(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                             uint32_t birth, size_t size, size_t usable)
{
	counter->births[birth]++;
	counter->bytes += size;
	if (unlikely((counter->headroom_bytes -= (int64_t)usable) < 0)) {
		counter->peak_bytes -= counter->headroom_bytes;
		counter->headroom_bytes = 0;
	}
	struct trace_thread *record = thread->record;
	record->allocs[tier]++;
	record->bytes[tier] += size;
	record->usable_bytes[tier] += usable;
}

/* A birth is allowed to go by unseen. False: account_seen must come first. */
static always_inline bool account_unseen(struct trace_counter *counter)
{
	return likely(--counter->births_left >= 0);
}

/* The frame tier's peak is looked at where it takes another span. */
static always_inline void account_birth(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                        uint32_t birth, size_t size)
{
	if (!thread->frame_paused && unlikely(!account_unseen(counter)))
		account_seen(thread, counter);
	account_birth_sums(thread, counter, tier, birth, size, block_usable(size));
	if (unlikely(thread->record->usable_bytes[tier] > thread->look_at[tier]))
		account_look(thread, tier);
}

static always_inline void account_death(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
                                        size_t usable)
{
	counter->headroom_bytes += (int64_t)usable;
	thread->record->frees[tier]++;
	thread->record->frees_bytes[tier] += usable;
}

#endif
