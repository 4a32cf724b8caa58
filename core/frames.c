/* Rings of frame records. A thread gets its ring, its merged records and its histograms at its first completed frame;
   the first frame thread keeps 16,384 frames whole, further ones 1,024, so that the recording stays bounded. */
#include "core/frames.h"

#include <errno.h>

#define RING_FIRST 16384u
#define RING_OTHER 1024u
#define RING_CHUNK 1024u
#define MERGED_MAX 1024u
#define KEEPERS_MAX 64u

struct keeper {
	uint32_t record_index;
	struct trace_array ring, merged, histogram;
	uint32_t merged_used;
};

static struct {
	struct base_lock lock;
	_Atomic uint32_t count;
	struct keeper *keeper[KEEPERS_MAX];
} table;

/* Keepers live outside the recording, one page each at most, taken when a thread becomes a frame thread. */
static struct keeper storage[KEEPERS_MAX];

static struct keeper *keeper_of(struct thread *thread)
{
	uint32_t count = atomic_load_explicit(&table.count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++)
		if (table.keeper[i]->record_index == thread->record_index)
			return table.keeper[i];
	if (count == KEEPERS_MAX || !base_lock(&table.lock))
		return NULL;
	struct keeper *keeper = NULL;
	count = atomic_load_explicit(&table.count, memory_order_relaxed);
	if (count < KEEPERS_MAX) {
		keeper = &storage[count];
		keeper->record_index = thread->record_index;
		uint32_t whole = count ? RING_OTHER : RING_FIRST;
		trace_array_init(&keeper->ring, TRACE_KIND_FRAME, thread->record_index, sizeof(struct trace_frame),
		                 RING_CHUNK / 4, whole);
		trace_array_init(&keeper->merged, TRACE_KIND_FRAME_MERGED, thread->record_index,
		                 sizeof(struct trace_frame_merged), MERGED_MAX, MERGED_MAX);
		trace_array_init(&keeper->histogram, TRACE_KIND_FRAME_HIST, thread->record_index,
		                 sizeof(struct trace_frame_hist), 1, 1);
		thread->record->ring_capacity = whole;
		thread->record->merged_span = 1;
		table.keeper[count] = keeper;
		atomic_store_explicit(&table.count, count + 1, memory_order_release);
	}
	base_unlock(&table.lock);
	return keeper;
}

static void merge_into(struct trace_frame_merged *into, const struct trace_frame_merged *next)
{
	into->end_ns = next->end_ns;
	into->busy_ns += next->busy_ns;
	into->bytes += next->bytes;
	into->allocs += next->allocs;
	into->frees += next->frees;
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		into->allocs_tier[tier] += next->allocs_tier[tier];
	into->escapes += next->escapes;
	into->violations += next->violations;
	into->count += next->count;
}

static struct trace_frame_merged merged_of(const struct trace_frame *frame)
{
	struct trace_frame_merged merged = {.begin_ns = frame->begin_ns,
	                                    .end_ns = frame->end_ns,
	                                    .busy_ns = frame->end_ns - frame->begin_ns,
	                                    .bytes = frame->bytes,
	                                    .allocs = frame->allocs,
	                                    .frees = frame->frees,
	                                    .escapes = frame->escapes,
	                                    .violations = frame->violations,
	                                    .count = 1,
	                                    .number = frame->number};
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		merged.allocs_tier[tier] = frame->allocs_tier[tier];
	return merged;
}

/* Neighbours become one each, and the span that a merged record may take doubles. */
static void merge_pairs(struct keeper *keeper)
{
	for (uint32_t i = 0; i < MERGED_MAX / 2; i++) {
		struct trace_frame_merged pair = *(struct trace_frame_merged *)trace_at(&keeper->merged, 2 * i);
		merge_into(&pair, trace_at(&keeper->merged, 2 * i + 1));
		*(struct trace_frame_merged *)trace_at(&keeper->merged, i) = pair;
	}
	keeper->merged_used = MERGED_MAX / 2;
}

/* A frame leaves the ring: the last merged record takes it, or a new one when that is full. */
static void retire(struct thread *thread, struct keeper *keeper, const struct trace_frame *frame)
{
	struct trace_thread *record = thread->record;
	struct trace_frame_merged one = merged_of(frame);
	struct trace_frame_merged *last = keeper->merged_used ? trace_at(&keeper->merged, keeper->merged_used - 1) : NULL;
	if (last && last->count < record->merged_span) {
		merge_into(last, &one);
		trace_loss(TRACE_LOSS_FRAMES_MERGED, 1);
		return;
	}
	if (keeper->merged_used == MERGED_MAX) {
		merge_pairs(keeper);
		record->merged_span *= 2;
	}
	if (keeper->merged_used < trace_count(&keeper->merged)) {
		*(struct trace_frame_merged *)trace_at(&keeper->merged, keeper->merged_used) = one;
	} else if (!trace_append(&keeper->merged, &one, NULL)) {
		trace_loss(TRACE_LOSS_FRAMES, 1);
		return;
	}
	record->merged_used = ++keeper->merged_used;
	trace_loss(TRACE_LOSS_FRAMES_MERGED, 1);
}

static void histogram_add(struct keeper *keeper, const struct trace_frame *frame)
{
	if (!trace_count(&keeper->histogram) && !trace_append(&keeper->histogram, NULL, NULL))
		return;
	struct trace_frame_hist *hist = trace_at(&keeper->histogram, 0);
	uint64_t duration = frame->end_ns - frame->begin_ns;
	hist->duration[trace_hist_bucket(duration)]++;
	hist->allocs[trace_hist_bucket(frame->allocs)]++;
	hist->bytes[trace_hist_bucket(frame->bytes)]++;
	if (duration > hist->duration_max_ns)
		hist->duration_max_ns = duration;
	if (frame->allocs > hist->allocs_max)
		hist->allocs_max = frame->allocs;
	if (frame->bytes > hist->bytes_max)
		hist->bytes_max = frame->bytes;
	hist->count++;
}

void frames_append(struct thread *thread, const struct trace_frame *frame)
{
	struct keeper *keeper = keeper_of(thread);
	if (!keeper) {
		trace_loss(TRACE_LOSS_FRAMES, 1);
		return;
	}
	struct trace_thread *record = thread->record;
	uint32_t at = (uint32_t)(record->frames_whole % record->ring_capacity);
	if (at == trace_count(&keeper->ring) && !trace_append(&keeper->ring, frame, NULL)) {
		if (at < 2) {
			trace_loss(TRACE_LOSS_FRAMES, 1);
			return;
		}
		record->ring_capacity = at; /* the recording is full: the ring stays as long as it is */
		at = 0;
	}
	if (at < record->frames_whole) {
		struct trace_frame *place = trace_at(&keeper->ring, at);
		retire(thread, keeper, place);
		*place = *frame;
	}
	histogram_add(keeper, frame);
	__atomic_store_n(&record->frames_whole, record->frames_whole + 1, __ATOMIC_RELEASE);
}

void frames_child(void)
{
	for (uint32_t i = 0; i < atomic_load(&table.count); i++)
		storage[i] = (struct keeper){0};
	atomic_store(&table.count, 0);
}
