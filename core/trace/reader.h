/*
 * The reading side of format.h: a recording of any age and state, finished, killed, growing, cut or damaged, becomes
 * plain arrays in memory. Every offset and count in the file is checked before use; what is not whole is left out and
 * told in `damage`.
 */
#ifndef FA_TRACE_READER_H
#define FA_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/trace/format.h"

/* The records of one kind (and owner), copied, in index order. */
struct reader_array {
	uint32_t kind, owner;
	uint32_t count;
	uint32_t record_bytes;
	void *records; /* count * record_bytes; records of missing chunks read zero */
};

struct reader {
	struct trace_header header;
	struct reader_array *arrays;
	size_t array_count;
	char damage[256]; /* one line, empty when the recording is whole */
};

/* Whether a regular file stands at `path` that begins as recordings do. */
bool reader_is_recording(const char *path);
/* As the events beside a recording do. */
bool reader_is_events(const char *path);

/* Reads `path`. 0, or a negative errno: -EINVAL when it is no recording, -EPROTO for another version; `damage` says
   what and why in one line. The result is freed by reader_close. */
int reader_open(struct reader *reader, const char *path);
void reader_close(struct reader *reader);

/* Nanoseconds of the clock that the recordings of this machine have their times from. */
uint64_t reader_now_ns(void);

/* The argument after `before` (NULL: the first), or NULL. */
const char *reader_argument(const struct reader *reader, const char *before);

/* The array of a kind and owner; an empty one when there is none. */
const struct reader_array *reader_array(const struct reader *reader, enum trace_kind kind, uint32_t owner);
static inline const void *reader_at(const struct reader_array *array, uint32_t index)
{
	return index < array->count ? (const char *)array->records + (size_t)index * array->record_bytes : NULL;
}

#endif
