/* The table of DESIGN §8 as code. */
#include "core/check.h"

#include "core/registry/codes.h"

struct check_result check_death(const struct check_birth *birth, const struct check_death *death, uint32_t owner_frame)
{
	struct check_result result = {.verdict = CHECK_OUTSIDE_SCOPES};
	if (!birth->in_scope)
		return result;
	result.lifetime_frames = owner_frame > birth->frame ? owner_frame - birth->frame : 0;
	bool same_thread = birth->thread == death->thread;
	if (!birth->frame_open) {
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
	} else {
		result.verdict = CHECK_DIED_IN_FRAME;
	}
	return result;
}

enum trace_level check_level(uint32_t code, bool asked)
{
	const struct code_info *info = codes_find(code);
	if (!info)
		return TRACE_LEVEL_WARN;
	return info->by_lifetime_rule && asked ? TRACE_LEVEL_ERROR : info->level;
}
