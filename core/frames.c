/* Rings of frame records. A thread gets its ring, its merged records and its histograms at its first completed frame;
   the first frame thread keeps 16,384 frames whole, further ones 1,024, so that the recording stays bounded. Inside a patched
   function: general registers only. */
#include "core/frames.h"

#include "core/mark/mark.h"

#define RING_FIRST 16384u
#define RING_OTHER 1024u
#define RING_CHUNK 1024u
#define MERGED_MAX 1024u
#define KEEPERS_MAX 64u

struct frames_keeper {
	uint32_t record_index;
	uint32_t next;        /* place in the ring: frames_whole modulo ring_capacity */
	uint32_t merged_used;
	struct trace_frame_merged *last; /* the merged record that takes what leaves the ring; NULL: none yet */
	struct trace_frame_hist *histograms;
	struct trace_array ring, merged, histogram;
};

static struct {
	struct base_lock lock;
	_Atomic uint32_t count;
	struct frames_keeper keeper[KEEPERS_MAX]; /* a page each, taken when a thread becomes a frame thread */
} table;

/* Threads beyond those that have a record each share the last one, and its keeper. */
static struct frames_keeper *keeper_of_record(uint32_t record_index)
{
	uint32_t count = atomic_load_explicit(&table.count, memory_order_acquire);
	for (uint32_t i = 0; i < count; i++)
		if (table.keeper[i].record_index == record_index)
			return &table.keeper[i];
	return NULL;
}

static void make_keeper(void *given, void *made)
{
	struct thread *thread = given;
	if (!base_lock(&table.lock))
		return;
	uint32_t count = atomic_load_explicit(&table.count, memory_order_relaxed);
	if (count < KEEPERS_MAX) {
		struct frames_keeper *keeper = &table.keeper[count];
		keeper->record_index = thread->record_index;
		keeper->next = keeper->merged_used = 0;
		keeper->last = NULL;
		keeper->histograms = NULL;
		uint32_t whole = count ? RING_OTHER : RING_FIRST;
		trace_array_init(&keeper->ring, TRACE_KIND_FRAME, thread->record_index, sizeof(struct trace_frame),
		                 RING_CHUNK / 4, whole);
		trace_array_init(&keeper->merged, TRACE_KIND_FRAME_MERGED, thread->record_index,
		                 sizeof(struct trace_frame_merged), MERGED_MAX, MERGED_MAX);
		trace_array_init(&keeper->histogram, TRACE_KIND_FRAME_HIST, thread->record_index,
		                 sizeof(struct trace_frame_hist), 1, 1);
		thread->record->ring_capacity = whole;
		thread->record->merged_span = 1;
		atomic_store_explicit(&table.count, count + 1, memory_order_release);
		*(struct frames_keeper **)made = keeper;
	}
	base_unlock(&table.lock);
}

/* NULL: there are too many, or it cannot be made now. */
static struct frames_keeper *keeper_of(struct thread *thread)
{
	struct frames_keeper *keeper = thread->frames;
	if (likely(keeper && keeper->record_index == thread->record_index))
		return keeper;
	keeper = keeper_of_record(thread->record_index);
	if (!keeper && atomic_load_explicit(&table.count, memory_order_relaxed) < KEEPERS_MAX)
		patch_guarded(make_keeper, thread, &keeper);
	thread->frames = keeper;
	return keeper;
}

static void append(void *array, void *record)
{
	trace_append(array, record, NULL);
}

/* Only this thread appends to it. */
static bool has_appended(struct trace_array *array, const void *record)
{
	uint32_t before = trace_count(array);
	patch_guarded(append, array, (void *)record);
	return trace_count(array) != before;
}

static void lose_frame(void)
{
	trace_add(&trace_header->losses[TRACE_LOSS_FRAMES], 1);
}

/* A frame joins a merged record that ends where it begins. */
static always_inline void merge_frame(struct trace_frame_merged *into, const struct trace_frame *frame)
{
	into->end_ns = frame->end_ns;
	into->busy_ns += frame->end_ns - frame->begin_ns;
	into->bytes += frame->bytes;
	into->allocs += frame->allocs;
	into->frees += frame->frees;
#pragma GCC unroll 3
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		into->allocs_tier[tier] += frame->allocs_tier[tier];
	into->escapes += frame->escapes;
	into->violations += frame->violations;
	into->count++;
}

static void merge_record(struct trace_frame_merged *into, const struct trace_frame_merged *next)
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

/* Neighbours become one each, and the span that a merged record may take doubles. */
static void merge_pairs(struct frames_keeper *keeper)
{
	for (uint32_t i = 0; i < MERGED_MAX / 2; i++) {
		struct trace_frame_merged pair = *(struct trace_frame_merged *)trace_at(&keeper->merged, 2 * i);
		merge_record(&pair, trace_at(&keeper->merged, 2 * i + 1));
		*(struct trace_frame_merged *)trace_at(&keeper->merged, i) = pair;
	}
	keeper->merged_used = MERGED_MAX / 2;
}

/* A frame leaves the ring: the last merged record takes it, or a new one when that is full. */
static void retire(struct thread *thread, struct frames_keeper *keeper, const struct trace_frame *frame)
{
	struct trace_thread *record = thread->record;
	if (likely(keeper->last && keeper->last->count < record->merged_span)) {
		merge_frame(keeper->last, frame);
		record->frames_merged++;
		return;
	}
	struct trace_frame_merged one = {.begin_ns = frame->begin_ns, .number = frame->number};
	merge_frame(&one, frame);
	if (keeper->merged_used == MERGED_MAX) {
		merge_pairs(keeper);
		record->merged_span *= 2;
	}
	if (keeper->merged_used < trace_count(&keeper->merged)) {
		*(struct trace_frame_merged *)trace_at(&keeper->merged, keeper->merged_used) = one;
	} else if (!has_appended(&keeper->merged, &one)) {
		lose_frame();
		return;
	}
	keeper->last = trace_at(&keeper->merged, keeper->merged_used);
	record->merged_used = ++keeper->merged_used;
	record->frames_merged++;
}

struct trace_frame *frames_place(struct thread *thread)
{
	struct frames_keeper *keeper = keeper_of(thread);
	if (unlikely(!keeper)) {
		lose_frame();
		return NULL;
	}
	struct trace_thread *record = thread->record;
	uint32_t at = keeper->next < record->ring_capacity ? keeper->next : 0;
	if (unlikely(at == trace_count(&keeper->ring)) && !has_appended(&keeper->ring, NULL)) {
		if (at < 2) {
			lose_frame();
			return NULL;
		}
		record->ring_capacity = at; /* the recording is full: the ring stays as long as it is */
		at = 0;
	}
	struct trace_frame *place = trace_at(&keeper->ring, at);
	if (at < record->frames_whole)
		retire(thread, keeper, place);
	keeper->next = at + 1;
	return place;
}

void frames_add(struct thread *thread, const struct trace_frame *frame)
{
	struct frames_keeper *keeper = thread->frames;
	struct trace_thread *record = thread->record;
	if (unlikely(!keeper->histograms) && has_appended(&keeper->histogram, NULL))
		keeper->histograms = trace_at(&keeper->histogram, 0);
	struct trace_frame_hist *histograms = keeper->histograms;
	if (likely(histograms != NULL)) {
		uint64_t duration = frame->end_ns - frame->begin_ns;
		histograms->duration[trace_hist_bucket(duration)]++;
		histograms->allocs[trace_hist_bucket(frame->allocs)]++;
		histograms->bytes[trace_hist_bucket(frame->bytes)]++;
		if (duration > histograms->duration_max_ns)
			histograms->duration_max_ns = duration;
		if (frame->allocs > histograms->allocs_max)
			histograms->allocs_max = frame->allocs;
		if (frame->bytes > histograms->bytes_max)
			histograms->bytes_max = frame->bytes;
		histograms->count++;
	}
	__atomic_store_n(&record->frames_whole, record->frames_whole + 1, __ATOMIC_RELEASE);
}

void frames_child(void)
{
	atomic_store(&table.count, 0);
}
