/*
 * The recording: the only contract between the target process and the tools.
 *
 * A recording is one file of 4 KiB pages. Page 0 is the header; the chunk table follows it; everything else is
 * chunks: arrays of fixed-width records of one kind. The target maps the file MAP_SHARED and updates records in place,
 * so a reader may look at any moment, also after kill -9. Invariants a reader may rely on:
 *   - a chunk is published by the release store of its `pages` field, after all other fields are set;
 *   - the records of a chunk are valid up to `used`, which only grows and is stored after the record is whole;
 *   - counters are monotonic except those marked (level);
 *   - all integers are little-endian; all times are CLOCK_MONOTONIC nanoseconds; all strings are NUL-terminated UTF-8.
 *
 * Glossary: slot = the set of counters that one thread at a time owns; a slot outlives its threads and is handed on.
 * usable = requested size rounded up to 16, at least 16; the same in every tier and mode.
 */
#ifndef FA_TRACE_FORMAT_H
#define FA_TRACE_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC "FATRACE\n"
#define TRACE_VERSION 5u
#define TRACE_PAGE_BYTES 4096u
#define TRACE_MAX_BYTES (16u << 20)
#define TRACE_CHUNKS_MAX 512u
#define TRACE_TABLE_PAGES 4u /* the chunk table: pages 1..4 */

enum { TRACE_TIERS = 3 };

enum trace_tier { TRACE_TIER_FRAME = 0, TRACE_TIER_POOL = 1, TRACE_TIER_HEAP = 2 };
enum trace_mode { TRACE_MODE_OFF = 0, TRACE_MODE_OBSERVE = 1, TRACE_MODE_ROUTE = 2, TRACE_MODE_ENFORCE = 3 };
enum trace_stacks { TRACE_STACKS_NONE = 0, TRACE_STACKS_CALLER = 1, TRACE_STACKS_FULL = 2 };
enum trace_role {
	TRACE_ROLE_NONE = 0,
	TRACE_ROLE_FRAME = 1,
	TRACE_ROLE_WORKER = 2,
	TRACE_ROLE_ASYNC = 3,
	TRACE_ROLE_IO = 4
};
enum trace_ended {
	TRACE_ENDED_OPEN = 0, /* still running, or ended in a way nobody could note */
	TRACE_ENDED_EXIT = 1, /* end_value = exit status when known, else -1 */
	TRACE_ENDED_SIGNAL = 2, /* end_value = signal number; written by the launcher */
};
enum trace_level { TRACE_LEVEL_ALLOW = 0, TRACE_LEVEL_HINT = 1, TRACE_LEVEL_WARN = 2, TRACE_LEVEL_ERROR = 3 };

/* What could not be recorded: index into trace_header.losses. Names: registry/losses.def. */
enum trace_loss {
#define LOSS(id, text) TRACE_LOSS_##id,
#include "../registry/losses.def"
#undef LOSS
	TRACE_LOSS_COUNT
};

/* Thresholds in force, index into trace_header.thresholds. Readers judge rate codes by them. */
enum trace_threshold {
#define THRESHOLD(id, key, dflt, min, max, unit, help) TRACE_THRESHOLD_##id,
#include "../registry/thresholds.def"
#undef THRESHOLD
	TRACE_THRESHOLD_COUNT
};

enum trace_kind {
	TRACE_KIND_NONE = 0,
	TRACE_KIND_MODULE, /* struct trace_module */
	TRACE_KIND_NODE, /* struct trace_node: call tree */
	TRACE_KIND_SITE, /* struct trace_site */
	TRACE_KIND_GROUP_LABEL, /* struct trace_group_label, parallel to the counter groups */
	TRACE_KIND_GROUP, /* struct trace_group */
	TRACE_KIND_THREAD, /* struct trace_thread */
	TRACE_KIND_FRAME, /* struct trace_frame; chunk owner = thread record; ring, see trace_thread.frames_* */
	TRACE_KIND_FRAME_MERGED, /* struct trace_frame_merged; chunk owner = thread record */
	TRACE_KIND_FRAME_HIST, /* struct trace_frame_hist, one; chunk owner = thread record */
	TRACE_KIND_LIFETIME, /* struct trace_lifetime */
	TRACE_KIND_VIOLATION, /* struct trace_violation */
	TRACE_KIND_MARKER, /* struct trace_marker */
	TRACE_KIND_TAG, /* struct trace_tag: named regions; 0 stands for none */
	TRACE_KIND_TASK_TYPE, /* struct trace_task_type; 0 stands for those beyond the bound */
	TRACE_KIND_TASK_COUNT, /* struct trace_task_count */
	TRACE_KIND_TALLY, /* struct trace_tally */
	TRACE_KIND_SUPPRESSION, /* struct trace_suppression; none in recordings of older builds */
	TRACE_KIND_COUNT
};

/* One entry of the chunk table. The table is an array of TRACE_CHUNKS_MAX of these from page 1 on. */
struct trace_chunk {
	uint16_t kind; /* enum trace_kind */
	uint16_t reserved0;
	uint32_t owner; /* thread record index for kinds that have one, else 0 */
	uint32_t first_page; /* offset in the file, in pages */
	uint32_t pages; /* length in pages; 0: entry not published; stored last */
	uint32_t first_index; /* index of the chunk's first record among the records of its kind (and owner) */
	uint32_t capacity; /* records that fit */
	uint32_t used; /* records valid; only grows */
	uint32_t record_bytes;
};
static_assert(sizeof(struct trace_chunk) == 32, "chunk entry");
static_assert(sizeof(struct trace_chunk) * TRACE_CHUNKS_MAX == TRACE_TABLE_PAGES * TRACE_PAGE_BYTES, "chunk table");

#define TRACE_EXE_BYTES 512u
#define TRACE_ARGS_BYTES 1024u
#define TRACE_OPTIONS_BYTES 1024u

struct trace_header {
	char magic[8];
	uint32_t version;
	uint32_t header_bytes;
	uint32_t pid;
	uint32_t mode; /* enum trace_mode */
	uint32_t stacks; /* enum trace_stacks in force (may be less than asked; see losses) */
	uint32_t stacks_asked;
	uint32_t chunk_count; /* entries of the table in use; stored after the entry */
	uint32_t file_pages; /* pages the writer has taken so far */
	uint64_t start_unix_ns; /* wall clock at the start */
	uint64_t start_ns; /* CLOCK_MONOTONIC at the start */
	uint64_t
		last_ns; /* last time stamp seen: at markers, thread starts, the end, and now and then at an allocation */
	uint64_t end_ns; /* 0 while open */
	uint32_t ended; /* enum trace_ended */
	int32_t end_value;
	uint64_t start_ticks; /* field 22 of /proc/PID/stat: tells a reused pid from a live one */
	uint64_t peak_bytes; /* peak of live usable bytes over all threads, sampled */
	uint64_t peak_error_bytes; /* the true peak is at most this much higher */
	uint64_t peak_ns;
	uint64_t tier_peak_bytes[TRACE_TIERS]; /* usable bytes live per tier at their own sampled peaks */
	uint64_t tier_footprint_bytes[TRACE_TIERS]; /* (level) memory committed for the tier */
	uint64_t tier_footprint_peak_bytes[TRACE_TIERS];
	uint64_t foreign_frees; /* free/realloc of pointers that are not ours, passed on */
	uint64_t untracked_allocs; /* blocks made for the shim's own needs or before it was ready: in no other count */
	uint64_t segments_leased; /* segment ids given out so far, in whole leases */
	uint64_t clamped_lifetimes; /* blocks older than the segment table: lifetime is a lower bound */
	uint64_t stack_captures; /* full unwinds, call-path cache misses included */
	uint64_t stack_hits; /* answered by the call-path cache */
	uint64_t stack_checks; /* sampled re-verifications */
	uint64_t stack_wrong; /* of them, wrong */
	uint64_t losses[32]; /* by enum trace_loss */
	uint64_t thresholds[64]; /* by enum trace_threshold */
	char exe[TRACE_EXE_BYTES];
	char args[TRACE_ARGS_BYTES]; /* each with its NUL, in args_bytes; cut when longer */
	char options[TRACE_OPTIONS_BYTES]; /* options as given */
	char build_version[32]; /* the shim's version */
	uint32_t automatic; /* enum trace_automatic */
	uint8_t code_level[64]; /* policy: by place in the code registry, enum trace_level + 1; 0: as the code has it */
	uint32_t level_full; /* 1: every event is recorded beside this file (events.h) */
	uint32_t args_bytes; /* 0 in older recordings: up to the last that is not empty */
};
enum trace_automatic {
	TRACE_AUTOMATIC_OFF = 0, /* the frame boundary was given, or there is to be none */
	TRACE_AUTOMATIC_SEARCHED = 1, /* nothing was called periodically so far */
	TRACE_AUTOMATIC_FOUND = 2,
};
static_assert(sizeof(struct trace_header) <= TRACE_PAGE_BYTES, "header fits its page");
static_assert(TRACE_LOSS_COUNT <= 32 && TRACE_THRESHOLD_COUNT <= 64, "header arrays");

/* A mapped object. Never removed: an unloaded module keeps its record with `unloaded_ns` set. One that comes back to where it was
   has the same record, with 0 there; elsewhere it gets a new one. */
struct trace_module {
	uint64_t base; /* load bias */
	uint64_t start, end; /* lowest and highest mapped address */
	uint64_t unloaded_ns;
	uint32_t build_id_bytes;
	uint8_t build_id[20];
	char path[440];
};
static_assert(sizeof(struct trace_module) == 496, "module record");

/* Call tree. Node 0 is the root (outermost, no pc); a call path is a node: its pc is the innermost return address,
   parents lead outwards. `offset` = pc - module.base; module is UINT32_MAX for code in no module (JIT), offset = pc.
   Addresses are return addresses: the call is at offset - 1. Exception: TRACE_NODE_EXACT, a function's entry. */
struct trace_node {
	uint32_t parent;
	uint32_t module;
	uint64_t offset; /* bit 63: TRACE_NODE_EXACT, bit 62: TRACE_NODE_CUT (path deeper than the cap or folded) */
};
#define TRACE_NODE_EXACT (1ull << 63)
#define TRACE_NODE_CUT (1ull << 62)
#define TRACE_NODE_OFFSET(o) ((o) & ~(TRACE_NODE_EXACT | TRACE_NODE_CUT))
#define TRACE_NO_MODULE UINT32_MAX
static_assert(sizeof(struct trace_node) == 16, "node record");

/* One allocation site. Site 0 = unknown (losses, bootstrap). With stacks=none node is 0 and class_bytes/role name it. */
struct trace_site {
	uint32_t node; /* call path */
	uint32_t class_bytes; /* stacks=none: upper bound of the size class, else 0 */
	uint32_t role; /* stacks=none: enum trace_role */
	uint32_t folded; /* 1: stands for several sites that share this path suffix */
	uint64_t
		live_bytes_at_peak; /* usable bytes live when the process stood near its peak: a fiftieth lower at most, or 64
	                                bytes for each site if that is more */
	uint64_t live_blocks_at_peak;
	uint32_t lifetime; /* index of its trace_lifetime + 1; 0: none */
	uint32_t demotions; /* times moved out of the frame tier */
	uint32_t promotions; /* times moved back */
	uint32_t threads; /* bit per slot (modulo 32) that allocated here: threads seen, lower bound */
	uint32_t tag; /* region its allocations were made in, 0: none */
	uint32_t tag_owner; /* region that the allocating code's module belongs to when it is another one, else 0 */
	uint64_t reserved0;
};
static_assert(sizeof(struct trace_site) == 64, "site record");

/* Where an allocation was born and which tier it is accounted to (in observe mode the tier it would have had). */
enum trace_birth {
	TRACE_BIRTH_FRAME_IN = 0, /* frame tier, inside a frame */
	TRACE_BIRTH_POOL_IN = 1, /* pool tier, inside a scope */
	TRACE_BIRTH_HEAP_IN = 2,
	TRACE_BIRTH_POOL_OUT = 3, /* outside every scope */
	TRACE_BIRTH_HEAP_OUT = 4,
	TRACE_BIRTH_COUNT = 5
};

/* What one slot's threads did at one site. Three cache lines; malloc and free in the same segment write to the first. Births
   are counted by the thread that allocates, deaths by the thread that frees: only sums over all slots mean something for
   live figures. never_died(site) = births in scope - all in-scope deaths, over all slots. malloc's plain births are counted
   down in births_left: see trace_counter_births.
   live = peak_bytes - headroom_bytes: malloc and free then find out about a new peak by the sign of what they write. */
struct trace_counter {
	/* line 0: malloc, and free in the same segment */
	int32_t births_left; /* before the slot looks at the site again (account.c): FA602's limit, or none */
	uint16_t route; /* TRACE_ROUTE_*: what keeps the site's blocks off the plain way */
	uint8_t in_tasks; /* 1: some of its blocks were born in tasks */
	uint8_t plain_birth; /* enum trace_birth of those that are counted down, and a phase */
	uint64_t bytes; /* requested */
	int64_t headroom_bytes; /* (level) peak_bytes less the usable bytes alive */
	uint64_t died_in_segment; /* born in a scope, same segment */
	uint64_t died_in_segment_outside; /* born outside every scope, same segment */
	int64_t peak_bytes; /* most usable bytes alive so far, of what this slot has allocated and freed */
	uint32_t site;
	uint32_t rules; /* bit n: rule n of the policy holds for the site, but for the size */
	int32_t births_given; /* what births_left was, without those that are in `births` already */
	uint32_t next_seen; /* the shim's own: sites that were seen since its frame began, chained */
	/* line 1: once a frame, and deaths in another segment */
	uint64_t births[TRACE_BIRTH_COUNT]; /* each with a phase: trace_counter_births */
	uint64_t old_at_frame; /* in-scope blocks alive when that frame began, plus `outlived`: trace_counter_old */
	uint64_t outlived_frame; /* FA601 and FA205 together */
	uint32_t frame; /* number of the last frame with a birth in it (low 32 bits), 0: none */
	uint32_t task_alive; /* (level) blocks born in tasks less those that died, wherever; modulo 2^32 */
	/* line 2: rare */
	uint64_t died_in_frame;
	uint64_t died_outside; /* born outside every scope, another segment or thread */
	uint64_t crossed_await;
	uint64_t died_elsewhere; /* other thread, frame still open */
	uint64_t tier_moves; /* realloc or promotion changed the tier of one of its blocks */
	uint32_t first_move_frame, last_move_frame;
	uint64_t heap_frame_count; /* frame number (low 32 bits) << 32 | heap-tier births in it */
	uint64_t pinned_bytes; /* bytes of frame spans its escaped blocks have pinned, summed */
};
#define TRACE_ROUTE_DEMOTED 1u /* this slot routes the site's blocks to the pool for now */
#define TRACE_ROUTE_RULED 2u /* `rules` is not 0 */
#define TRACE_HOT_TOLD (1ull << 63) /* in old_at_frame: FA602 was told of in that frame */
static_assert(sizeof(struct trace_counter) == 192 && offsetof(struct trace_counter, births) == 64 &&
		      offsetof(struct trace_counter, died_in_frame) == 128,
	      "three cache lines");

/*
 * Plain births are counted down in births_left, from births_given, and added to births[plain_birth] now and then. So that
 * whoever looks between any two stores sees each birth once, both ends carry a phase, in their highest bit: what is counted
 * down counts while they agree. One store adds it and lets them disagree; when both counts are new, another store of
 * plain_birth lets it agree with the one that it names then.
 */
#define TRACE_BIRTHS_PHASE (1ull << 63) /* in births[] */
#define TRACE_PLAIN_PHASE 0x80u /* in plain_birth */
static inline bool trace_counter_counts_down(const struct trace_counter *counter, int birth)
{
	return (counter->plain_birth & ~TRACE_PLAIN_PHASE) == (unsigned)birth &&
	       (counter->births[birth] >> 63) == (counter->plain_birth >> 7);
}

static inline uint64_t trace_counter_plain(const struct trace_counter *counter)
{
	return (uint64_t)((int64_t)counter->births_given - (counter->births_left > 0 ? counter->births_left : 0));
}

static inline uint64_t trace_counter_births(const struct trace_counter *counter, int birth)
{
	return (counter->births[birth] & ~TRACE_BIRTHS_PHASE) +
	       (trace_counter_counts_down(counter, birth) ? trace_counter_plain(counter) : 0);
}

/* Without TRACE_HOT_TOLD, in whose place the sign is repeated. */
static inline int64_t trace_counter_old(const struct trace_counter *counter)
{
	return (int64_t)(counter->old_at_frame << 1) >> 1;
}

/* In frames and tasks. */
static inline uint64_t trace_counter_births_in_scopes(const struct trace_counter *counter)
{
	return trace_counter_births(counter, TRACE_BIRTH_FRAME_IN) +
	       trace_counter_births(counter, TRACE_BIRTH_POOL_IN) + trace_counter_births(counter, TRACE_BIRTH_HEAP_IN);
}

/* (level) Usable bytes alive; of one slot it may be negative. */
static inline int64_t trace_counter_live(const struct trace_counter *counter)
{
	return (int64_t)((uint64_t)counter->peak_bytes - (uint64_t)counter->headroom_bytes);
}

enum { TRACE_GROUP_SITES = 16 };
struct trace_group {
	struct trace_counter counter[TRACE_GROUP_SITES];
};
/* Label of counter group i (same index, GROUP_LABEL kind): counters of `slot` for sites first_site.. +15. */
struct trace_group_label {
	uint32_t slot;
	uint32_t first_site; /* UINT32_MAX: not yet valid */
};

/* What a thread did, of what is accounted to one tier. One cache line: malloc and free write to it. */
struct trace_sums {
	uint64_t allocs;
	uint64_t bytes; /* requested */
	int64_t live_bytes; /* (level) usable, allocated less freed by this thread: may be negative */
	uint64_t frees;
	uint64_t older_frees_bytes; /* 0; in recordings of older builds, what live_bytes has not lost there */
	uint64_t reserved0[3];
};
static_assert(sizeof(struct trace_sums) == 64, "one cache line");

/* One thread. Counters are exact; `frees` counts what this thread freed, whoever allocated it. Index 0..n. */
struct trace_thread {
	uint32_t tid;
	uint32_t slot;
	uint32_t role; /* enum trace_role */
	uint32_t flags; /* TRACE_THREAD_* */
	char name[32];
	uint64_t start_ns, end_ns; /* end 0: alive */
	/* offset 64 */
	struct trace_sums tier[TRACE_TIERS];
	/* offset 256 */
	uint64_t start_routine; /* absolute address, 0: unknown or main */
	uint64_t frames; /* frames begun: boundaries seen */
	uint64_t
		frames_whole; /* completed frames; the last min(frames_whole, ring_capacity) are in the FRAME ring at n % ring_capacity */
	uint32_t ring_capacity; /* frames kept whole at most; the ring's chunks are added as they are needed */
	uint32_t merged_span; /* frames that one full FRAME_MERGED record covers */
	uint32_t boundary_marker; /* index of the marker that bounds its frames + 1; 0: none */
	uint32_t merged_used; /* valid merged records */
	uint64_t open_begin_ns; /* begin of the open frame, 0: none is open */
	uint64_t remote_frees_waiting; /* at the last frame end */
	uint64_t folded_threads; /* threads whose counts were folded into this record */
	uint64_t idle_ns; /* summed time inside blocking boundaries */
	uint64_t frame_live_peak_bytes; /* highest live frame-tier bytes seen at a frame end */
	uint64_t frames_merged; /* older frames that are told of together: TRACE_LOSS_FRAMES_MERGED is the sum */
	uint64_t reserved0[13];
};
#define TRACE_THREAD_MAIN 1u
static_assert(sizeof(struct trace_thread) == 448 && offsetof(struct trace_thread, tier) == 64, "thread record");

/* For readers. */
static inline int64_t trace_live(const struct trace_sums *sums)
{
	return (int64_t)((uint64_t)sums->live_bytes - sums->older_frees_bytes);
}

/* Of all tiers. */
static inline struct trace_sums trace_thread_sums(const struct trace_thread *thread)
{
	struct trace_sums sums = thread->tier[0];
	for (int tier = 1; tier < TRACE_TIERS; tier++) {
		sums.allocs += thread->tier[tier].allocs;
		sums.bytes += thread->tier[tier].bytes;
		sums.live_bytes = (int64_t)((uint64_t)sums.live_bytes + (uint64_t)thread->tier[tier].live_bytes);
		sums.frees += thread->tier[tier].frees;
		sums.older_frees_bytes += thread->tier[tier].older_frees_bytes;
	}
	return sums;
}

/* One completed frame: [begin, end), end is the next boundary's entry; idle = time inside the boundary before begin. */
struct trace_frame {
	uint64_t begin_ns, end_ns;
	uint64_t bytes; /* requested */
	uint32_t allocs;
	uint32_t frees; /* by this thread */
	uint32_t allocs_tier[TRACE_TIERS];
	uint32_t escapes; /* blocks born in this frame and alive at its end */
	uint32_t pinned_bytes; /* frame spans pinned at its end */
	uint32_t violations; /* recorded by this thread in this frame */
	/* KiB: live usable bytes of the process at its end, those of other threads up to 0.1 ms before. */
	uint32_t live_kib;
	uint32_t number; /* frame number, from 1; low 32 bits */
};
static_assert(sizeof(struct trace_frame) == 64, "frame record");

/* `count` neighbouring older frames in one. */
struct trace_frame_merged {
	uint64_t begin_ns, end_ns; /* of the first and the last */
	uint64_t busy_ns; /* sum of durations */
	uint64_t bytes, allocs, frees, allocs_tier[TRACE_TIERS];
	uint64_t escapes, violations;
	uint32_t count;
	uint32_t number; /* of the first */
};
static_assert(sizeof(struct trace_frame_merged) == 96, "merged frame record");

/* Log-linear histograms of all completed frames of a thread: values below 64 exact, then 64 buckets an octave
   (relative error of a bucket's middle below 0.8 %). Buckets: see trace_hist_bucket(). Max is exact. */
#define TRACE_HIST_BUCKETS 2368u /* up to 2^42 */
struct trace_frame_hist {
	uint64_t duration_max_ns, allocs_max, bytes_max, count;
	uint32_t duration[TRACE_HIST_BUCKETS];
	uint32_t allocs[TRACE_HIST_BUCKETS];
	uint32_t bytes[TRACE_HIST_BUCKETS];
};

static inline uint32_t trace_hist_bucket(uint64_t value)
{
	if (value < 64)
		return (uint32_t)value;
	uint32_t octave = 63u - (uint32_t)__builtin_clzll(value); /* >= 6 */
	uint32_t bucket = 64u * (octave - 5u) + (uint32_t)((value >> (octave - 6u)) & 63u);
	return bucket < TRACE_HIST_BUCKETS ? bucket : TRACE_HIST_BUCKETS - 1;
}

/* Lower bound of a bucket; its upper bound is the next bucket's lower bound - 1. */
static inline uint64_t trace_hist_low(uint32_t bucket)
{
	if (bucket < 64)
		return bucket;
	uint32_t octave = bucket / 64u + 5u;
	return (64ull + bucket % 64u) << (octave - 6u);
}

/* Lifetimes in frames of a site's blocks that outlived their frame (blocks that died in it have lifetime 0 and are
   counted in trace_counter). Bucket i counts lifetimes in [trace_lifetime_low(i), trace_lifetime_low(i+1)). */
#define TRACE_LIFETIME_BUCKETS 28u
struct trace_lifetime {
	uint32_t site;
	uint32_t reserved0;
	uint64_t max;
	uint32_t bucket[TRACE_LIFETIME_BUCKETS];
};
static_assert(sizeof(struct trace_lifetime) == 128, "lifetime record");

static inline uint64_t
trace_lifetime_low(uint32_t bucket) /* 1..8 exact, then 9, 13, 17, 25, 33, 49, …; the last is open */
{
	if (bucket < 8)
		return bucket + 1u;
	uint64_t octave = 8ull << ((bucket - 8u) / 2u);
	return octave + 1u + (bucket & 1u ? octave / 2u : 0u);
}

static inline uint32_t trace_lifetime_bucket(uint64_t frames) /* frames >= 1 */
{
	uint64_t older = frames - 1u;
	if (older < 8)
		return (uint32_t)older;
	uint32_t octave = 60u - (uint32_t)__builtin_clzll(older);
	uint32_t bucket = 8u + 2u * octave + (uint32_t)(older >> (octave + 2u) & 1u);
	return bucket < TRACE_LIFETIME_BUCKETS ? bucket : TRACE_LIFETIME_BUCKETS - 1u;
}

/* One key (code, site, other path), its totals and its first occurrences. */
#define TRACE_OCCURRENCES 3u
struct trace_occurrence {
	uint64_t size_bytes; /* requested; for threshold codes the measured value */
	uint32_t born_thread, died_thread; /* thread records; UINT32_MAX: none */
	uint32_t scope_end_node, died_node; /* call paths; 0: none */
	uint32_t born_frame, died_frame; /* frame numbers, low 32 bits */
};
struct trace_violation {
	uint32_t code; /* 601 for FA601 */
	uint32_t site; /* where it was born; 0: no site */
	uint32_t other; /* node of the path that died or touched; 0: none */
	uint32_t level; /* enum trace_level as fired */
	uint64_t count;
	uint64_t bytes; /* requested */
	uint64_t first_frame, last_frame;
	uint64_t worst_lifetime_frames;
	uint64_t value; /* threshold codes: the worst value measured */
	uint64_t limit; /* threshold codes: the limit it broke */
	uint32_t thread; /* thread record it fired on */
	uint32_t occurrences; /* valid entries below */
	uint32_t tag; /* FA301 of a region: its tag record; 0: none */
	uint32_t role; /* FA301 of a role: enum trace_role; 0: none */
	struct trace_occurrence occurrence[TRACE_OCCURRENCES];
};
static_assert(sizeof(struct trace_occurrence) == 32 && sizeof(struct trace_violation) == 184, "violation record");

/* What one slot's threads add to a violation of a block, once its first occurrences are whole: to its totals, and to the
   lifetimes of its site. */
struct trace_tally {
	uint32_t slot, violation;
	uint64_t count, bytes;
	uint64_t last_frame, worst_lifetime_frames;
	uint64_t reserved0[3];
	uint32_t lifetime[TRACE_LIFETIME_BUCKETS];
	uint64_t reserved1[2];
};
static_assert(sizeof(struct trace_tally) == 192, "three cache lines");

enum trace_marker_kind {
	TRACE_MARKER_FRAME = 0, /* boundary at each entry */
	TRACE_MARKER_FRAME_SCOPE = 1, /* entry to return */
	TRACE_MARKER_TASK = 2,
	TRACE_MARKER_AWAIT = 3,
	TRACE_MARKER_REGION = 4,
	TRACE_MARKER_CANDIDATE = 5, /* watched by zero configuration, not chosen */
	TRACE_MARKER_TRANSFER = 6, /* hands its first argument on to another thread */
	TRACE_MARKER_TASK_END = 7,
	TRACE_MARKER_STACK = 8, /* prepares a coroutine's stack */
	TRACE_MARKER_SWITCH = 9, /* goes on at another stack */
};
enum trace_binding {
	TRACE_BINDING_NONE = 0, /* refused or not found: see reason */
	TRACE_BINDING_PATCH = 1, /* entry patched */
	TRACE_BINDING_GOT = 2,
	TRACE_BINDING_CALL = 3, /* the shim interposes this libc call itself */
	TRACE_BINDING_API = 4,
};
struct trace_marker {
	uint32_t kind; /* enum trace_marker_kind */
	uint32_t binding; /* enum trace_binding */
	uint32_t automatic; /* 1: chosen by the shim */
	uint32_t module; /* module record of the bound function, TRACE_NO_MODULE when none */
	uint64_t offset; /* of the function in its module */
	uint64_t calls; /* entries seen by one thread, nested ones once */
	uint32_t threads_all; /* 1: counts on all threads (FUNC@*) */
	uint32_t candidate; /* enum policy_marker_kind that zero configuration watched it as; 0: none */
	uint64_t period_ns; /* of an automatic choice: mean time between calls when it was judged */
	uint32_t jitter_percent; /* mean deviation from that */
	uint32_t thread; /* thread record that called it + 1 */
	uint32_t tag; /* TRACE_MARKER_REGION: tag record */
	uint32_t reserved0;
	uint64_t calls_elsewhere; /* entries seen by other threads */
	char name[160]; /* as asked for */
	char reason[152]; /* why refused, or the evidence of an automatic choice; may be empty */
};
static_assert(sizeof(struct trace_marker) == 384, "marker record");

static inline uint64_t trace_marker_calls(const struct trace_marker *marker)
{
	return marker->calls + marker->calls_elsewhere;
}

/* A named region, made from a policy. Its allocations are those of the sites that carry its tag. */
struct trace_tag {
	char name[64];
	uint64_t budget_bytes; /* of a frame; 0: none */
	uint64_t frame_bytes_max; /* most that one frame of one thread allocated in it */
	uint64_t frames_over; /* frames above the budget */
	uint64_t reserved0[5];
};
static_assert(sizeof(struct trace_tag) == 128, "tag record");

/* What the policy wants not to be reported: a code, where a function of the call path is called so. */
struct trace_suppression {
	uint32_t code; /* 601 for FA601 */
	uint32_t reserved0;
	char name[64];
	char path[200]; /* glob; a policy's lines are shorter */
	char why[752]; /* cut when longer */
};
static_assert(sizeof(struct trace_suppression) == 1024, "suppression record");

/* Tasks of one kind: those that one function polls, coroutines of one entry function, tasks of one name by the API.
   Totals are the sums of its trace_task_count over all slots; a task's own figures are added when it ends. */
enum trace_task_kind {
	TRACE_TASK_OTHERS = 0, /* of kinds beyond the bound */
	TRACE_TASK_POLL = 1, /* a marked function polls it */
	TRACE_TASK_COROUTINE = 2, /* has a stack of its own */
	TRACE_TASK_API = 3,
};
struct trace_task_type {
	uint32_t kind; /* enum trace_task_kind */
	uint32_t node; /* the function, TRACE_NODE_EXACT; 0: none is known */
	uint32_t birth_site; /* where the first of them was made; 0: unknown */
	uint32_t reserved0;
	uint64_t live_peak; /* most at once, as seen when one began */
	uint64_t polls_max; /* of one task */
	uint64_t
		bytes_peak; /* most usable bytes that one task's blocks took at the end of a poll, or before it handed one on */
	uint64_t lifetime_max_ns;
	uint64_t reserved1[3];
	char name[96]; /* the marker as asked for, or the API's name; may be empty */
};
static_assert(sizeof(struct trace_task_type) == 168, "task type record");

/* What one slot's threads did for tasks of one type. */
struct trace_task_count {
	uint32_t slot, type;
	uint64_t started, ended; /* first polls; ends seen */
	uint64_t polls;
	uint64_t allocs, bytes; /* made in polls; requested */
	uint64_t crossed_await; /* blocks that died in a later poll of their task */
	uint64_t left_blocks, left_bytes; /* alive when their task ended; usable */
	uint64_t lifetime_ns; /* of those that ended, from their first poll, summed */
	uint64_t reserved0[6];
};
static_assert(sizeof(struct trace_task_count) == 128, "two cache lines");

#endif
