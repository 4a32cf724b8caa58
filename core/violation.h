/*
 * The violation table: one record for each key (code, site, other path), with totals and its first occurrences whole.
 */
#ifndef FA_VIOLATION_H
#define FA_VIOLATION_H

#include "core/base.h"
#include "core/thread.h"

#define VIOLATIONS_MAX 8192u

struct violation {
	uint32_t code;
	enum trace_level level;
	uint32_t site; /* where the block was born; 0: none */
	uint32_t other; /* node of the path that freed or touched it; 0: none */
	uint64_t count, bytes;
	uint64_t frame; /* frame number of the event */
	uint64_t lifetime_frames;
	uint64_t value, limit; /* threshold codes */
	uint32_t tag, role; /* whose budget: part of the key */
	struct trace_occurrence occurrence;
};

/* Thread-safe. `thread` is the thread it fires on. Returns where the next of its kind may be added up, by this thread's slot
   alone and without the key being looked for; NULL while the first occurrences are kept whole, or when there is no room. */
struct trace_tally *violation_record(struct thread *thread, const struct violation *violation);

/* A code without a block: nothing but who, where and how much. */
void violation_threshold(struct thread *thread, uint32_t code, uint32_t site, uint64_t value, uint64_t limit);

/* FA301: a frame allocated more than the budget of a region (`tag`), of its thread's role, or (both 0) of any frame. */
void violation_budget(struct thread *thread, uint32_t tag, uint32_t role, uint64_t bytes, uint64_t budget);

/* `count` blocks at once, where the node `other` says. */
void violation_count(struct thread *thread, uint32_t code, uint32_t other, uint64_t count, uint64_t bytes);

int violation_init(void);
void violation_child(void);

#endif
