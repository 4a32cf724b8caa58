/*
 * The recording as the target sees it: a file mapped shared, made of growing arrays of records (format.h). Records are
 * written in place; the file is whole at any moment. When there is no file (unwritable folder, full disk at the start)
 * the same arrays live in anonymous memory and are lost with the process: the launcher notices and says so.
 */
#ifndef FA_TRACE_WRITER_H
#define FA_TRACE_WRITER_H

#include "core/base.h"
#include "core/trace/format.h"

#define TRACE_ARRAY_CHUNKS 64u

/* A growing array of fixed-width records. Records never move; index -> record is two loads. Writers append under the
   writer's lock; anyone may read below `count`. */
struct trace_array {
	uint16_t kind;
	uint32_t owner;
	uint32_t record_bytes;
	uint32_t per_chunk; /* records a chunk holds: a power of two, so that index arithmetic is shifts */
	uint32_t per_chunk_bits;
	uint32_t max; /* records at most */
	_Atomic uint32_t count;
	uint32_t chunks;
	struct trace_chunk *entry[TRACE_ARRAY_CHUNKS];
	char *base[TRACE_ARRAY_CHUNKS];
};

extern struct trace_header *trace_header own_data; /* never NULL after trace_open */
extern struct trace_array trace_modules, trace_nodes, trace_sites, trace_labels, trace_groups, trace_threads,
	trace_lifetimes, trace_violations, trace_markers, trace_tags, trace_task_types, trace_task_counts,
	trace_tallies, trace_suppressions;

/* Creates the recording at `path` (absolute) or, when path is NULL or fails, in anonymous memory. Fills what is known
   of the header. Returns 0, or the negative errno of the file (the recording then is anonymous). There is none at all after -ENOMEM,
   and after -EEXIST, when something stands at `path`. */
int trace_open(const char *path);

void trace_array_init(struct trace_array *array, enum trace_kind kind, uint32_t owner, uint32_t record_bytes,
		      uint32_t per_chunk, uint32_t max);

/* Appends a copy of `record` (NULL: zeroes). Returns it, or NULL when the array or the file is full; *index is set.
   Takes the writer's lock; fails when this thread holds it already (signal handler). */
void *trace_append(struct trace_array *array, const void *record, uint32_t *index);
/* The same of an array that nobody else appends to meanwhile. Takes the lock only where that needs another chunk. */
void *trace_append_alone(struct trace_array *array, const void *record, uint32_t *index);

static always_inline void *trace_at(const struct trace_array *array, uint32_t index)
{
	return array->base[index >> array->per_chunk_bits] +
	       (size_t)(index & (array->per_chunk - 1)) * array->record_bytes;
}

static always_inline uint32_t trace_count(const struct trace_array *array)
{
	return atomic_load_explicit(&array->count, memory_order_acquire);
}

/* Whether the next record, number `at`, fits without another chunk; and it counts from now on. */
static always_inline bool trace_is_ready(const struct trace_array *array, uint32_t at)
{
	return at < array->max && at >> array->per_chunk_bits < array->chunks;
}

static always_inline void trace_publish(struct trace_array *array, uint32_t at)
{
	__atomic_store_n(&array->entry[at >> array->per_chunk_bits]->used, (at & (array->per_chunk - 1)) + 1,
			 __ATOMIC_RELEASE);
	atomic_store_explicit(&array->count, at + 1, memory_order_release);
}

void trace_loss(enum trace_loss loss, uint64_t count);
static always_inline void trace_add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* A highest value, whoever knows of a higher one. */
static inline void trace_raise(uint64_t *highest, uint64_t value)
{
	uint64_t seen = __atomic_load_n(highest, __ATOMIC_RELAXED);
	while (value > seen &&
	       !__atomic_compare_exchange_n(highest, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Where the recording is; NULL when it has no file. */
const char *trace_path(void);

/* The process is about to lose the right to open files (it gives up root, enters a chroot or a sandbox): from now on the
   recording grows without. Its file is as long as it may become then, TRACE_MAX_BYTES, but takes up no more room. Where calls are
   spared (base.h) no file is opened any more, here and in children, whether or not the recording can grow without. */
void trace_keep_room(void);

/* Child of a fork: the mapping is gone (MADV_DONTFORK). One that is followed opens its own next: where that fails, its parent's
   recording counts it. */
void trace_child(bool is_followed);
void trace_child_opened(bool is_recorded);

#endif
