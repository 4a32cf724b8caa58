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
	bool in_scope; /* born inside a frame or task */
	bool scope_open; /* which has not ended */
	uint32_t thread; /* thread record */
	uint32_t frame; /* frame number on that thread; 0 for a task's block */
	uint32_t task; /* the task it was born in, 0: none */
	uint32_t awaits; /* awaits passed then, by the task or else the thread */
};

struct check_death {
	uint32_t thread;
	uint32_t frame; /* number of the frame open on the freeing thread, 0: none */
	uint32_t awaits; /* passed by that thread outside tasks */
	uint32_t task; /* the task that frees, 0: none */
	uint32_t task_awaits;
};

struct check_result {
	enum check_verdict verdict;
	uint32_t code; /* 601, 603, 703, 201, 205; 0: none */
	uint32_t lifetime_frames; /* 0: within the frame; for another thread's death, counted in the owner's frames */
};

/* Tasks may keep what they like for as long as they live, and hand it to whom they like: no code. */
static inline enum check_verdict check_task_block(const struct check_birth *birth, const struct check_death *death)
{
	if (!birth->scope_open)
		return CHECK_OUTLIVED_FRAME;
	if (birth->task != death->task)
		return CHECK_DIED_ELSEWHERE;
	return birth->awaits == death->task_awaits ? CHECK_DIED_IN_FRAME : CHECK_CROSSED_AWAIT;
}

static inline struct check_result check_frame_block(const struct check_birth *birth, const struct check_death *death,
						    uint32_t owner_frame)
{
	struct check_result result = {.verdict = CHECK_DIED_IN_FRAME};
	result.lifetime_frames = owner_frame > birth->frame ? owner_frame - birth->frame : 0;
	bool same_thread = birth->thread == death->thread;
	if (!birth->scope_open) {
		result.verdict = CHECK_OUTLIVED_FRAME;
		result.code = same_thread ? 601 : 205;
		if (!result.lifetime_frames)
			result.lifetime_frames = 1;
	} else if (!same_thread) {
		result.verdict = CHECK_DIED_ELSEWHERE;
		result.code = 201;
	} else if (birth->awaits != death->awaits) {
		result.verdict = CHECK_CROSSED_AWAIT;
		result.code = 603;
	}
	if (result.code && death->task)
		result.code = 703;
	return result;
}

/* `owner_frame`: the frame number now current on the thread of birth (for lifetimes). */
static inline struct check_result check_death(const struct check_birth *birth, const struct check_death *death,
					      uint32_t owner_frame)
{
	if (!birth->in_scope)
		return (struct check_result){.verdict = CHECK_OUTSIDE_SCOPES};
	if (birth->task)
		return (struct check_result){.verdict = check_task_block(birth, death)};
	return check_frame_block(birth, death, owner_frame);
}

/* Level of a lifetime code: an error where frame memory was asked for, else a warning. */
enum trace_level check_level(uint32_t code, bool asked);

/* The same for the codes of check_result. */
static inline enum trace_level check_lifetime_level(bool asked)
{
	return asked ? TRACE_LEVEL_ERROR : TRACE_LEVEL_WARN;
}

#endif
