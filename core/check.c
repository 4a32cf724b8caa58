/* The table of DESIGN §8 as code. */
#include "core/check.h"

#include "core/registry/codes.h"

/* Tasks may keep what they like for as long as they live, and hand it to whom they like: no code. */
static enum check_verdict of_task_block(const struct check_birth *birth, const struct check_death *death)
{
	if (!birth->scope_open)
		return CHECK_OUTLIVED_FRAME;
	if (birth->task != death->task)
		return CHECK_DIED_ELSEWHERE;
	return birth->awaits == death->task_awaits ? CHECK_DIED_IN_FRAME : CHECK_CROSSED_AWAIT;
}

static struct check_result of_frame_block(const struct check_birth *birth, const struct check_death *death,
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

struct check_result check_death(const struct check_birth *birth, const struct check_death *death, uint32_t owner_frame)
{
	if (!birth->in_scope)
		return (struct check_result){.verdict = CHECK_OUTSIDE_SCOPES};
	if (birth->task)
		return (struct check_result){.verdict = of_task_block(birth, death)};
	return of_frame_block(birth, death, owner_frame);
}

enum trace_level check_level(uint32_t code, bool asked)
{
	const struct code_info *info = codes_find(code);
	if (!info)
		return TRACE_LEVEL_WARN;
	return info->by_lifetime_rule && asked ? TRACE_LEVEL_ERROR : info->level;
}
