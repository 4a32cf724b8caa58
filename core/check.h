/*
 * What a block's death means: pure functions of two resolved records (DESIGN §8, "One code per death").
 */
#ifndef FA_CHECK_H
#define FA_CHECK_H

#include "core/base.h"
#include "core/trace/format.h"

enum check_verdict {
	CHECK_DIED_IN_SEGMENT,
	CHECK_DIED_IN_FRAME,
	CHECK_CROSSED_AWAIT,
	CHECK_OUTLIVED_FRAME,
	CHECK_DIED_ELSEWHERE,
	CHECK_OUTSIDE_SCOPES,
};

struct check_birth {
	bool in_scope;      /* born inside a frame or task */
	bool scope_open;    /* which has not ended */
	uint32_t thread;    /* thread record */
	uint32_t frame;     /* frame number on that thread; 0 for a task's block */
	uint32_t task;      /* the task it was born in, 0: none */
	uint32_t awaits;    /* awaits passed then, by the task or else the thread */
};

struct check_death {
	uint32_t thread;
	uint32_t frame; /* number of the frame open on the freeing thread, 0: none */
	uint32_t awaits; /* passed by that thread outside tasks */
	uint32_t task;  /* the task that frees, 0: none */
	uint32_t task_awaits;
};

struct check_result {
	enum check_verdict verdict;
	uint32_t code;            /* 601, 603, 703, 201, 205; 0: none */
	uint32_t lifetime_frames; /* 0: within the frame; for another thread's death, counted in the owner's frames */
};

/* `owner_frame`: the frame number now current on the thread of birth (for lifetimes). */
struct check_result check_death(const struct check_birth *birth, const struct check_death *death, uint32_t owner_frame);

/* Level of a lifetime code: an error where frame memory was asked for, else a warning. */
enum trace_level check_level(uint32_t code, bool asked);

#endif
