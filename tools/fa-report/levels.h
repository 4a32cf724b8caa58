/*
 * What counts how much: levels of codes as the policy of the run and the command line give them, the command line last, and
 * whether a denied one fired.
 */
#ifndef FA_REPORT_LEVELS_H
#define FA_REPORT_LEVELS_H

#include "tools/fa-report/model.h"

#define LEVELS_RULES_MAX 64u

struct levels_rule {
	uint32_t code; /* 0: all */
	enum trace_level level; /* TRACE_LEVEL_ERROR denies */
};

struct levels {
	struct levels_rule rule[LEVELS_RULES_MAX];
	size_t rule_count;
	enum trace_level min_severity;
	bool deny_warnings;
};

/* Gives the model's violations their levels, and leaves out those that nobody wants to see; true when a denied code fired. */
bool levels_apply(const struct levels *levels, struct model *model);

/* Whether a denied code may be among the violations that found no place in the recording. */
bool levels_may_be_denied(const struct levels *levels, const struct model *model);

#endif
