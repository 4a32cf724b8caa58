/* Quantiles are exact while every frame is kept whole; beyond that they come from the histograms (error below 0.8 %). */
#define _GNU_SOURCE
#include "tools/fa-report/model_frames.h"

#include <errno.h>
#include <stdlib.h>

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return a < b ? -1 : a > b;
}

static struct model_quantiles exact(uint64_t *values, size_t count)
{
	if (!count)
		return (struct model_quantiles){0};
	qsort(values, count, sizeof *values, compare);
	return (struct model_quantiles){.known = true,
					.p50 = values[(count + 1) / 2 - 1],
					.p95 = values[(count * 95 + 99) / 100 - 1],
					.p99 = values[(count * 99 + 99) / 100 - 1],
					.max = values[count - 1]};
}

static uint64_t at_rank(const uint32_t *buckets, uint64_t rank, uint64_t max)
{
	uint64_t seen = 0;
	for (uint32_t b = 0; b < TRACE_HIST_BUCKETS; b++) {
		seen += buckets[b];
		if (seen >= rank) {
			uint64_t low = trace_hist_low(b),
				 high = b + 1 < TRACE_HIST_BUCKETS ? trace_hist_low(b + 1) - 1 : max;
			uint64_t middle = low + (high - low) / 2;
			return middle < max ? middle : max;
		}
	}
	return max;
}

static struct model_quantiles from_histogram(const uint32_t *buckets, uint64_t count, uint64_t max)
{
	return (struct model_quantiles){.known = count != 0,
					.p50 = at_rank(buckets, (count + 1) / 2, max),
					.p95 = at_rank(buckets, (count * 95 + 99) / 100, max),
					.p99 = at_rank(buckets, (count * 99 + 99) / 100, max),
					.max = max};
}

static struct model_frame from_record(const struct trace_frame *frame)
{
	struct model_frame one = {.number = frame->number,
				  .count = 1,
				  .begin_ns = frame->begin_ns,
				  .end_ns = frame->end_ns,
				  .busy_ns = frame->end_ns - frame->begin_ns,
				  .allocs = frame->allocs,
				  .bytes = frame->bytes,
				  .frees = frame->frees,
				  .escapes = frame->escapes,
				  .violations = frame->violations,
				  .pinned_bytes = frame->pinned_bytes,
				  .live_kib = frame->live_kib};
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		one.allocs_tier[tier] = frame->allocs_tier[tier];
	return one;
}

static struct model_frame from_merged(const struct trace_frame_merged *frame)
{
	struct model_frame one = {.number = frame->number,
				  .count = frame->count,
				  .begin_ns = frame->begin_ns,
				  .end_ns = frame->end_ns,
				  .busy_ns = frame->busy_ns,
				  .allocs = frame->allocs,
				  .bytes = frame->bytes,
				  .frees = frame->frees,
				  .escapes = frame->escapes,
				  .violations = frame->violations};
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		one.allocs_tier[tier] = frame->allocs_tier[tier];
	return one;
}

static void quantiles(struct model_frames *frames, const struct trace_frame_hist *hist, size_t whole,
		      uint64_t completed, uint64_t *scratch)
{
	const struct model_frame *first = frames->series + (frames->series_count - whole);
	if (whole == completed || !hist) {
		for (size_t i = 0; i < whole; i++)
			scratch[i] = first[i].busy_ns;
		frames->duration_ns = exact(scratch, whole);
		for (size_t i = 0; i < whole; i++)
			scratch[i] = first[i].allocs;
		frames->allocs = exact(scratch, whole);
		for (size_t i = 0; i < whole; i++)
			scratch[i] = first[i].bytes;
		frames->bytes = exact(scratch, whole);
		return;
	}
	frames->duration_ns = from_histogram(hist->duration, hist->count, hist->duration_max_ns);
	frames->allocs = from_histogram(hist->allocs, hist->count, hist->allocs_max);
	frames->bytes = from_histogram(hist->bytes, hist->count, hist->bytes_max);
}

static int build(struct model *model, uint32_t index, const struct trace_thread *thread)
{
	const struct reader *reader = model->reader;
	const struct reader_array *ring = reader_array(reader, TRACE_KIND_FRAME, index);
	const struct reader_array *merged = reader_array(reader, TRACE_KIND_FRAME_MERGED, index);
	const struct trace_frame_hist *hist = reader_at(reader_array(reader, TRACE_KIND_FRAME_HIST, index), 0);
	uint64_t capacity =
		thread->ring_capacity && thread->ring_capacity < ring->count ? thread->ring_capacity : ring->count;
	size_t whole = thread->frames_whole < capacity ? (size_t)thread->frames_whole : (size_t)capacity;
	size_t older = thread->merged_used < merged->count ? thread->merged_used : merged->count;
	struct model_frames frames = {.thread = index, .count = thread->frames, .series_count = older + whole};
	frames.series = calloc(frames.series_count + 1, sizeof *frames.series);
	uint64_t *scratch = calloc(whole + 1, sizeof *scratch);
	struct model_frames *grown = realloc(model->frames, (model->frames_count + 1) * sizeof *grown);
	if (grown)
		model->frames = grown;
	if (!frames.series || !scratch || !grown) {
		free(frames.series);
		free(scratch);
		return -ENOMEM;
	}
	for (size_t i = 0; i < older; i++)
		frames.series[i] = from_merged(reader_at(merged, (uint32_t)i));
	uint64_t first = thread->frames_whole - whole;
	for (size_t i = 0; i < whole; i++)
		frames.series[older + i] = from_record(reader_at(ring, (uint32_t)((first + i) % capacity)));
	quantiles(&frames, hist, whole, thread->frames_whole, scratch);
	free(scratch);
	model->frames[model->frames_count++] = frames;
	return 0;
}

static int most_frames_first(const void *left, const void *right)
{
	const struct model_frames *a = left, *b = right;
	return a->count != b->count ? (a->count < b->count ? 1 : -1) : a->thread < b->thread ? -1 : 1;
}

int model_frames_build(struct model *model)
{
	const struct reader_array *threads = reader_array(model->reader, TRACE_KIND_THREAD, 0);
	int error = 0;
	for (uint32_t i = 0; i < threads->count && !error; i++) {
		const struct trace_thread *thread = reader_at(threads, i);
		if (thread->frames)
			error = build(model, i, thread);
	}
	if (model->frames_count)
		qsort(model->frames, model->frames_count, sizeof *model->frames, most_frames_first);
	return error;
}
