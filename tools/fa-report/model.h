/*
 * What a recording says, summed up: sites over all slots, threads, frames, verdicts, tiers, and the violations with
 * those that only the sums can tell (rates, blocks that never died). Knows nothing of outputs.
 */
#ifndef FA_REPORT_MODEL_H
#define FA_REPORT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/trace/reader.h"

struct model_verdicts {
	uint64_t died_in_segment, died_in_frame, crossed_await, outlived_frame, died_elsewhere, never_died,
		outside_scopes;
};

struct model_site {
	uint32_t index; /* record index */
	const struct trace_site *record;
	uint64_t allocs, frees, bytes;
	int64_t live_blocks, live_bytes, peak_bytes;
	uint64_t births[TRACE_BIRTH_COUNT];
	uint64_t died_in_segment_outside, died_outside;
	struct model_verdicts verdicts;
	uint64_t old_alive; /* of never_died: those born in a frame that has ended */
	bool in_tasks; /* some were born in tasks */
	uint32_t task_alive; /* of never_died: those born in tasks; modulo 2^32 */
	uint64_t tier_moves;
	uint32_t first_move_frame, last_move_frame;
	uint64_t lifetime_p50, lifetime_p95, lifetime_max; /* frames */
};

struct model_quantiles {
	bool known; /* else no frame is in the recording: one is open, or none found room */
	uint64_t p50, p95, p99, max;
};

/* One frame of a series: a frame kept whole (count 1) or `count` older ones merged. */
struct model_frame {
	uint64_t number, count, begin_ns, end_ns, busy_ns, allocs, bytes, frees, escapes, violations;
	uint64_t allocs_tier[TRACE_TIERS];
	uint64_t pinned_bytes, live_kib;
};

struct model_frames {
	uint32_t thread; /* record index */
	uint64_t count; /* boundaries seen: the last frame is open */
	struct model_quantiles duration_ns, allocs, bytes;
	struct model_frame *series;
	size_t series_count;
};

/* A named region: the sum of the sites that carry its tag. */
struct model_region {
	uint32_t tag; /* record index */
	const struct trace_tag *record;
	uint64_t allocs, frees, bytes;
	int64_t live_blocks, live_bytes;
	uint64_t live_bytes_at_peak;
	struct model_verdicts verdicts;
	uint64_t foreign; /* allocations by code of another region's modules: FA801 */
};

/* Tasks of one kind: what all slots counted. */
struct model_task {
	const struct trace_task_type *record;
	uint64_t started, ended, polls, allocs, bytes, crossed_await, left_blocks, left_bytes, lifetime_ns;
};

struct model_violation {
	uint32_t code;
	enum trace_level level; /* as recorded, then as the policy of the run and the command line say */
	bool denied; /* by the policy of the run */
	uint32_t site, other;
	uint64_t count, bytes, first_frame, last_frame, worst_lifetime_frames, value, limit;
	uint32_t thread;
	uint32_t tag, role; /* FA301: whose budget; FA801: the region it was */
	const struct trace_violation *record; /* NULL: derived here */
	bool never_died;
};

/* What the policy of the run wants not to be reported; the counts are suppress.c's. */
struct model_suppression {
	const struct trace_suppression *record;
	uint64_t count, bytes, places;
};

struct model {
	const struct reader *reader;
	struct model_site *sites; /* by record index */
	size_t site_count;
	struct model_verdicts verdicts;
	uint64_t allocs, frees, bytes;
	int64_t live_blocks, live_bytes;
	uint64_t frees_outside; /* of blocks born outside every frame */
	uint64_t frees_outside_in_segment; /* of these, in the segment they were born in */
	uint64_t peak_bytes, peak_error_bytes; /* the true peak is at most that much higher */
	struct {
		uint64_t allocs, frees, bytes, peak_bytes;
		int64_t live_bytes;
	} tier[TRACE_TIERS];
	struct model_frames *frames; /* one for each thread with frames, most frames first */
	size_t frames_count;
	struct model_violation *violations; /* worst first */
	size_t violation_count;
	struct model_suppression *suppressions; /* by record index */
	size_t suppression_count;
	uint64_t violations_lost; /* found no place in the recording: of which codes, nobody knows */
	struct model_region *regions; /* [0]: outside every region; empty when there are none */
	size_t region_count;
	struct model_task *tasks; /* by record index; [0]: kinds beyond the bound */
	size_t task_count;
	struct model_task task_total; /* record NULL */
	const char *ended; /* exit, signal, running, unknown */
	bool lived_longer; /* than `duration_ns`, perhaps */
	uint64_t duration_ns; /* until now where it is running */
};

/* 0 or -ENOMEM. */
int model_build(struct model *model, const struct reader *reader);
void model_free(struct model *model);

/* The level that the policy of the run gave to a code, if any. */
bool model_policy_level(const struct model *model, uint32_t code, enum trace_level *level);
/* The path that a violation is known by: where the block was made; of what has no such path, where it was found. 0: none. */
uint32_t model_path(const struct model *model, const struct model_violation *violation);
/* Whether a code comes of sums alone: it is known whether it fired, whatever was lost. */
bool model_is_derived(uint32_t code);

static inline const struct trace_thread *model_thread(const struct model *model, uint32_t index)
{
	return reader_at(reader_array(model->reader, TRACE_KIND_THREAD, 0), index);
}

#endif
