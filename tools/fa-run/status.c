/*
 * Draws one line: frames, frame time, allocations a frame, tiers, violations. The file is read with pread, never
 * mapped: whatever happens to it, the launcher must not die of SIGBUS. Figures are those of the frame thread with the
 * most frames, and of all threads for the tiers.
 */
#define _GNU_SOURCE
#include "tools/fa-run/status.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define LINE_BYTES 256

struct figures {
	uint64_t allocs[TRACE_TIERS], frames, frames_whole, violations;
	uint64_t duration_p50_ns, allocs_p50;
	uint64_t last_ns;
	uint32_t thread, ring_capacity;
};

static bool read_at(int fd, void *out, size_t bytes, uint64_t offset)
{
	return pread(fd, out, bytes, (off_t)offset) == (ssize_t)bytes;
}

/* The records of a chunk, NULL when they are not what this version writes; to be freed. */
static void *read_chunk(int fd, const struct trace_chunk *chunk, uint32_t record_bytes)
{
	size_t bytes = (size_t)chunk->used * record_bytes;
	if (chunk->record_bytes != record_bytes || !bytes || bytes > (size_t)chunk->pages * TRACE_PAGE_BYTES)
		return NULL;
	void *records = malloc(bytes);
	if (records && !read_at(fd, records, bytes, (uint64_t)chunk->first_page * TRACE_PAGE_BYTES)) {
		free(records);
		records = NULL;
	}
	return records;
}

static void take_threads(int fd, const struct trace_chunk *chunk, struct figures *figures)
{
	struct trace_thread *threads = read_chunk(fd, chunk, sizeof *threads);
	for (uint32_t i = 0; threads && i < chunk->used; i++) {
		for (int tier = 0; tier < TRACE_TIERS; tier++)
			figures->allocs[tier] += threads[i].tier[tier].allocs;
		if (threads[i].frames <= figures->frames)
			continue;
		figures->frames = threads[i].frames;
		figures->frames_whole = threads[i].frames_whole;
		figures->ring_capacity = threads[i].ring_capacity;
		figures->thread = chunk->first_index + i;
	}
	free(threads);
}

static void take_violations(int fd, const struct trace_chunk *chunk, struct figures *figures)
{
	struct trace_violation *violations = read_chunk(fd, chunk, sizeof *violations);
	for (uint32_t i = 0; violations && i < chunk->used; i++)
		figures->violations += violations[i].count;
	free(violations);
}

static void take_tallies(int fd, const struct trace_chunk *chunk, struct figures *figures)
{
	struct trace_tally *tallies = read_chunk(fd, chunk, sizeof *tallies);
	for (uint32_t i = 0; tallies && i < chunk->used; i++)
		figures->violations += tallies[i].count;
	free(tallies);
}

static uint64_t histogram_median(const uint32_t *histogram)
{
	uint64_t total = 0, below = 0;
	uint32_t bucket = 0;
	for (uint32_t i = 0; i < TRACE_HIST_BUCKETS; i++)
		total += histogram[i];
	while (bucket < TRACE_HIST_BUCKETS - 1 && below + histogram[bucket] <= total / 2)
		below += histogram[bucket++];
	return (trace_hist_low(bucket) + trace_hist_low(bucket + 1) - 1) / 2;
}

static void take_frames(int fd, const struct trace_chunk *chunk, struct figures *figures)
{
	if (chunk->owner != figures->thread || !figures->frames_whole || !figures->ring_capacity)
		return;
	if (chunk->kind == TRACE_KIND_FRAME_HIST) {
		struct trace_frame_hist *histogram = read_chunk(fd, chunk, sizeof *histogram);
		if (histogram) {
			figures->duration_p50_ns = histogram_median(histogram->duration);
			figures->allocs_p50 = histogram_median(histogram->allocs);
		}
		free(histogram);
		return;
	}
	struct trace_frame frame;
	uint64_t last = (figures->frames_whole - 1) % figures->ring_capacity;
	if (last >= chunk->first_index && last - chunk->first_index < chunk->used &&
	    chunk->record_bytes == sizeof frame &&
	    read_at(fd, &frame, sizeof frame,
		    (uint64_t)chunk->first_page * TRACE_PAGE_BYTES + (last - chunk->first_index) * sizeof frame))
		figures->last_ns = frame.end_ns - frame.begin_ns;
}

static bool read_figures(int fd, struct figures *figures)
{
	static struct trace_chunk table[TRACE_CHUNKS_MAX];
	struct trace_header header;
	memset(figures, 0, sizeof *figures);
	if (!recording_header(fd, &header) || header.chunk_count > TRACE_CHUNKS_MAX ||
	    !read_at(fd, table, header.chunk_count * sizeof table[0], TRACE_PAGE_BYTES))
		return false;
	for (uint32_t i = 0; i < header.chunk_count; i++)
		if (table[i].kind == TRACE_KIND_THREAD)
			take_threads(fd, &table[i], figures);
	for (uint32_t i = 0; i < header.chunk_count; i++) {
		if (table[i].kind == TRACE_KIND_VIOLATION)
			take_violations(fd, &table[i], figures);
		else if (table[i].kind == TRACE_KIND_TALLY)
			take_tallies(fd, &table[i], figures);
		else if (table[i].kind == TRACE_KIND_FRAME || table[i].kind == TRACE_KIND_FRAME_HIST)
			take_frames(fd, &table[i], figures);
	}
	return true;
}

static void compose(char *line, size_t bytes, const struct figures *figures)
{
	uint64_t all = figures->allocs[0] + figures->allocs[1] + figures->allocs[2];
	double share = all ? 100.0 / (double)all : 0;
	char frames[96] = "no frame yet";
	if (figures->frames_whole)
		snprintf(frames, sizeof frames, "frame %" PRIu64 "  %.1f ms (p50 %.1f)  %" PRIu64 " allocs/frame",
			 figures->frames, (double)figures->last_ns / 1e6, (double)figures->duration_p50_ns / 1e6,
			 figures->allocs_p50);
	snprintf(line, bytes,
		 "fa-run: %s  %" PRIu64 " allocs: frame %.0f %% pool %.0f %% heap %.0f %%  %" PRIu64 " violation%s",
		 frames, all, share * (double)figures->allocs[TRACE_TIER_FRAME],
		 share * (double)figures->allocs[TRACE_TIER_POOL], share * (double)figures->allocs[TRACE_TIER_HEAP],
		 figures->violations, figures->violations == 1 ? "" : "s");
}

static bool terminal_is_ours(void)
{
	struct termios settings;
	return tcgetpgrp(STDERR_FILENO) == getpgrp() && tcgetattr(STDERR_FILENO, &settings) == 0 &&
	       (settings.c_lflag & ICANON);
}

void status_draw(struct status *status)
{
	struct figures figures;
	recording_advance(status->recording);
	int fd = status->recording->ready && terminal_is_ours()
			 ? open(status->recording->latest, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
			 : -1;
	bool known = fd >= 0 && read_figures(fd, &figures);
	if (fd >= 0)
		close(fd);
	if (!known)
		return;
	struct winsize size;
	char line[LINE_BYTES], out[LINE_BYTES + 16];
	compose(line, sizeof line, &figures);
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && size.ws_col <= strlen(line))
		line[size.ws_col - 1] = 0;
	int bytes = snprintf(out, sizeof out, "\r%s\033[K", line);
	status->drawn = write(STDERR_FILENO, out, (size_t)bytes) > 0;
}

void status_clear(struct status *status)
{
	if (status->drawn && write(STDERR_FILENO, "\r\033[K", 4) == 4)
		status->drawn = false;
}
