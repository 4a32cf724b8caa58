/*
 * The records of .eh_frame: where the unwind instructions of a function stand. Every read is bounded by the module's
 * mapping; a malformed record sets `bad` and reads as zero from there on. Format: LSB core specification 10.6.
 */
#ifndef FA_PATH_EH_FRAME_H
#define FA_PATH_EH_FRAME_H

#include "core/base.h"
#include "core/path/module.h"

/* A stretch of memory that is read from its front. */
struct bytes {
	const uint8_t *at, *end;
	bool bad;
};

/* What a CIE and an FDE say of one function. */
struct frame_info {
	uintptr_t start, end;
	uint64_t code_align;
	int64_t data_align;
	bool signal;
	struct bytes initial, program;
};

/* The next `count` bytes as a number; inlined for the counts that callers write out. */
static always_inline uint64_t bytes_take(struct bytes *in, size_t count)
{
	uint64_t value = 0;
	if (unlikely((size_t)(in->end - in->at) < count)) {
		in->bad = true;
		in->at = in->end;
		return 0;
	}
	__builtin_memcpy(&value, in->at, count);
	in->at += count;
	return value;
}

/* Of a LEB128 number: what is behind it. By value, so that a caller's `in` can stay in registers. */
struct bytes bytes_after_uleb(struct bytes in, uint64_t *value);
struct bytes bytes_after_sleb(struct bytes in, int64_t *value);

static always_inline uint64_t bytes_take_uleb(struct bytes *in)
{
	if (likely(in->at < in->end) && likely(*in->at < 0x80))
		return *in->at++;
	uint64_t value;
	*in = bytes_after_uleb(*in, &value);
	return value;
}

static always_inline int64_t bytes_take_sleb(struct bytes *in)
{
	int64_t value;
	*in = bytes_after_sleb(*in, &value);
	return value;
}

static always_inline void bytes_skip(struct bytes *in, uint64_t count)
{
	bool within = count <= (uint64_t)(in->end - in->at);
	in->bad |= !within;
	in->at = within ? in->at + count : in->end;
}

uint64_t bytes_take_encoded(struct bytes *in, uint8_t encoding, bool is_length);

/* The FDE that may hold `pc`, by binary search in .eh_frame_hdr; NULL when there is none. */
const uint8_t *eh_frame_find(const struct module_unwind *unwind, uintptr_t pc);
/* Reads the FDE at `at` and its CIE. False: malformed. */
bool eh_frame_read(const uint8_t *at, const struct path_module *module, struct frame_info *info);

#endif
