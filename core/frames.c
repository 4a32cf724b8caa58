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
#define OTHERS_NS 100000u /* so long what other threads have alive is taken to be the same */

struct frames_keeper {
	uint32_t record_index;
	uint32_t next; /* place in the ring: frames_whole modulo ring_capacity */
	uint32_t merged_used;
	struct trace_frame_merged *last; /* the merged record that takes what leaves the ring; NULL: none yet */
	struct trace_frame_hist *histograms;
	uint64_t others_at_ns; /* when the other threads were asked last */
	int64_t others_live; /* and what they had alive */
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
		keeper->others_at_ns = 0;
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
	if (likely(!record) && likely(trace_is_ready(array, before))) { /* where it reads zero already */
		trace_publish(array, before);
		return true;
	}
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

/* NULL: there is no room, it is counted as lost. */
static always_inline struct trace_frame *place_of(struct thread *thread, struct frames_keeper *keeper)
{
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

static always_inline uint32_t clip(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

static always_inline uint64_t positive(int64_t value)
{
	return value > 0 ? (uint64_t)value : 0;
}

/* Live usable bytes of the other threads. Each has a line for it that it writes to all the time: frames that are shorter than that
   do not fetch them at each end. */
static __attribute__((noinline)) int64_t ask_others(struct frames_keeper *keeper, uint64_t now)
{
	uint32_t records = trace_count(&trace_threads);
	int64_t live = 0;
	for (uint32_t i = 0; i < records; i++) {
		if (i == keeper->record_index)
			continue;
		const struct trace_thread *record = trace_at(&trace_threads, i);
#pragma GCC unroll 3
		for (int tier = 0; tier < TRACE_TIERS; tier++)
			live += record->tier[tier].live_bytes;
	}
	keeper->others_live = live;
	keeper->others_at_ns = now;
	return live;
}

/* Of the process, `own` of them this thread's. */
static always_inline uint64_t live_of_process(struct frames_keeper *keeper, uint64_t now, int64_t own)
{
	bool lately = now - keeper->others_at_ns < OTHERS_NS;
	return positive(own + (likely(lately) ? keeper->others_live : ask_others(keeper, now)));
}

static always_inline void fill(struct trace_frame *frame, const struct thread *thread, struct frames_keeper *keeper,
			       uint64_t now, const struct thread_edge *edge, size_t pinned)
{
	const struct thread_edge *from = &thread->at_frame;
	uint64_t allocs_tier[TRACE_TIERS], allocs = 0;
#pragma GCC unroll 3
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		allocs_tier[tier] = edge->allocs[tier] - from->allocs[tier];
		allocs += allocs_tier[tier];
	}
	uint64_t frees = edge->frees - from->frees;
	uint64_t escapes = positive((int64_t)allocs - (int64_t)(frees - thread->slow_frees) - thread->other_blocks -
				    (int64_t)atomic_load_explicit(&thread->own_deaths_remote, memory_order_relaxed));
	uint64_t live_kib = live_of_process(keeper, now, edge->live_bytes) / 1024;
	frame->begin_ns = thread->record->open_begin_ns;
	frame->end_ns = now;
	frame->bytes = edge->bytes - from->bytes;
#pragma GCC unroll 3
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		frame->allocs_tier[tier] = (uint32_t)allocs_tier[tier];
	frame->allocs = (uint32_t)allocs;
	frame->frees = (uint32_t)frees;
	frame->escapes = (uint32_t)escapes;
	frame->pinned_bytes = (uint32_t)pinned;
	frame->violations = (uint32_t)thread->frame_violations;
	frame->live_kib = (uint32_t)live_kib;
	frame->number = thread->frame;
	if (likely((allocs | frees | escapes | pinned | thread->frame_violations | live_kib) <= UINT32_MAX))
		return; /* clipped before they are stored, all would need registers meanwhile: 20 instructions a frame */
#pragma GCC unroll 3
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		frame->allocs_tier[tier] = clip(allocs_tier[tier]);
	frame->allocs = clip(allocs);
	frame->frees = clip(frees);
	frame->escapes = clip(escapes);
	frame->pinned_bytes = clip(pinned);
	frame->violations = clip(thread->frame_violations);
	frame->live_kib = clip(live_kib);
}

static always_inline void add_to_histograms(struct frames_keeper *keeper, const struct trace_frame *frame)
{
	if (unlikely(!keeper->histograms) && has_appended(&keeper->histogram, NULL))
		keeper->histograms = trace_at(&keeper->histogram, 0);
	struct trace_frame_hist *histograms = keeper->histograms;
	if (unlikely(!histograms))
		return;
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

void frames_record(struct thread *thread, uint64_t now, const struct thread_edge *edge, size_t pinned)
{
	struct frames_keeper *keeper = keeper_of(thread);
	if (unlikely(!keeper)) {
		lose_frame();
		return;
	}
	struct trace_frame *frame = place_of(thread, keeper);
	if (unlikely(!frame))
		return;
	fill(frame, thread, keeper, now, edge, pinned);
	add_to_histograms(keeper, frame);
	struct trace_thread *record = thread->record; /* it counts from now on */
	__atomic_store_n(&record->frames_whole, record->frames_whole + 1, __ATOMIC_RELEASE);
}

void frames_child(void)
{
	atomic_store(&table.count, 0);
}
