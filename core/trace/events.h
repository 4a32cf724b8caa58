/*
 * The events of level `full`: every birth and death of a block, every frame's begin and end.
 *
 *   area   memory that the target and the launcher share: a bounded queue of raw events, in the order in which they
 *          happened. Any thread of the target appends, the launcher takes out. The file it lies in is gone once both have
 *          mapped it.
 *   file   RECORDING.events: what the launcher makes of them. A header, then blocks that can each be read on its own but for
 *          the births that its deaths refer to; a file that was cut is good up to its last whole block.
 *
 * A block: struct events_block, then one zstd frame with a checksum, which holds for each column its length in bytes (u32) and
 * then the columns. Numbers in columns are LEB128; those marked (signed) are zigzag-coded differences.
 *   op      a byte for each event: bits 0-1 enum events_op, 2-3 the tier (of a mark: 0 begin, 1 end), 4 another thread than the
 *           event before (at first: than 0), 5 another frame than the birth before, or the mark before
 *   thread  the thread's record, where bit 4 is set
 *   frame   (signed) its frame's number against that of the birth or mark before, where bit 5 is set; 0 outside frames
 *   site    births: the site's record
 *   size    births: (signed) requested bytes against those of the birth before at this site, in this block
 *   age     deaths: (signed) how many births ago the block was born, against the same of the death before
 */
#ifndef FA_TRACE_EVENTS_H
#define FA_TRACE_EVENTS_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#define EVENTS_AREA_MAGIC "FAEVAREA"
#define EVENTS_MAGIC "FAEVENT\n"
#define EVENTS_VERSION 1u
#define EVENTS_QUEUE (1u << 18)
#define EVENTS_RECORDINGS_MAX 8u /* a process may execute other programs: each has a recording of its own */
#define EVENTS_PATH_BYTES 4096u

enum events_op { EVENTS_BIRTH = 0, EVENTS_DEATH = 1, EVENTS_UNKNOWN_DEATH = 2, EVENTS_MARK = 3 };
enum events_mark { EVENTS_FRAME_BEGIN = 0, EVENTS_FRAME_END = 1, EVENTS_RECORDING = 2 };

/* One raw event. `ready` is its place in the queue + 1, stored last. */
struct events_raw {
	_Atomic uint64_t ready;
	uint64_t address; /* multiple of 16; bits 0-1 enum events_op, 2-3 tier or enum events_mark */
	uint64_t size; /* requested bytes; bits 40-63: the thread's record */
	uint32_t site; /* of EVENTS_RECORDING: the place of its path */
	uint32_t frame;
};
static_assert(sizeof(struct events_raw) == 32, "half a cache line");
#define EVENTS_THREAD_SHIFT 40

struct events_area {
	char magic[8] __attribute__((nonstring));
	uint32_t version;
	uint32_t waits; /* 1: who finds the queue full waits; 0: the event is lost */
	_Atomic uint32_t pid; /* the process whose events these are */
	_Atomic uint32_t abandoned; /* the launcher takes nothing any more: set by who has waited in vain */
	_Atomic uint32_t recordings;
	char path[EVENTS_RECORDINGS_MAX][EVENTS_PATH_BYTES];
	_Alignas(64) _Atomic uint64_t pushed;
	_Alignas(64) _Atomic uint64_t taken;
	_Alignas(64) _Atomic uint64_t lost;
	_Alignas(64) struct events_raw queue[EVENTS_QUEUE];
};

struct events_header {
	char magic[8] __attribute__((nonstring));
	uint32_t version;
	uint32_t closed; /* 1: the launcher came to its end */
	uint64_t lost; /* events that found no place in the queue, known by then */
};

enum {
	EVENTS_COLUMN_OP,
	EVENTS_COLUMN_THREAD,
	EVENTS_COLUMN_FRAME,
	EVENTS_COLUMN_SITE,
	EVENTS_COLUMN_SIZE,
	EVENTS_COLUMN_AGE,
	EVENTS_COLUMNS
};
#define EVENTS_BLOCK_MAGIC 0x42455646u /* "FVEB" */
#define EVENTS_BLOCK_MAX (1u << 16) /* events in one */
struct events_block {
	uint32_t magic;
	uint32_t events;
	uint32_t raw_bytes, packed_bytes;
	uint64_t first_birth; /* births in the blocks before */
};
static_assert(sizeof(struct events_block) == 24 && sizeof(struct events_header) == 24, "headers");

#define EVENTS_OP_THREAD 0x10u
#define EVENTS_OP_FRAME 0x20u

static inline uint64_t events_zigzag(int64_t value)
{
	return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static inline int64_t events_unzigzag(uint64_t code)
{
	return (int64_t)(code >> 1) ^ -(int64_t)(code & 1);
}

#endif
