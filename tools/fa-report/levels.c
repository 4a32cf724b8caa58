/* The command line's rules over the levels that the model has from the recording. */
#include "tools/fa-report/levels.h"

/* Of several rules for a code the last counts. True: what has the code and the level then is denied. */
static bool take_rules(const struct levels *levels, uint32_t code, enum trace_level *level, bool denied)
{
	for (size_t i = 0; i < levels->rule_count; i++)
		if (!levels->rule[i].code || levels->rule[i].code == code) {
			*level = levels->rule[i].level;
			denied = *level == TRACE_LEVEL_ERROR;
		}
	return denied || (levels->deny_warnings && *level >= TRACE_LEVEL_WARN);
}

bool levels_apply(const struct levels *levels, struct model *model)
{
	bool denied = false;
	size_t kept = 0;
	for (size_t i = 0; i < model->violation_count; i++) {
		struct model_violation *v = &model->violations[i];
		denied |= take_rules(levels, v->code, &v->level, v->denied);
		if (v->level != TRACE_LEVEL_ALLOW && v->level >= levels->min_severity)
			model->violations[kept++] = *v;
	}
	model->violation_count = kept;
	return denied;
}
