/* The command line's rules over the levels that the model has from the recording. */
#include "tools/fa-report/levels.h"

#include "core/registry/codes.h"

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

bool levels_may_be_denied(const struct levels *levels, const struct model *model)
{
	for (size_t i = 0; model->violations_lost && i < codes_count(); i++) {
		uint32_t code = codes_at(i)->number;
		enum trace_level level = codes_at(i)->level;
		bool denied = model_policy_level(model, code, &level) && level == TRACE_LEVEL_ERROR;
		if (take_rules(levels, code, &level, denied) && !model_is_derived(code))
			return true;
	}
	return false;
}
