/* First match wins, in the order of the policy. */
#include "core/rule.h"

#include "core/policy.h"
#include "core/violation.h"

uint32_t rule_tier(uint64_t rules, size_t size)
{
	for (; rules; rules &= rules - 1) {
		const struct policy_rule *rule = &policy_in_force.rule[__builtin_ctzll(rules)];
		if (size >= rule->size_min && size <= rule->size_max)
			return (uint32_t)rule->tier + 1;
	}
	return 0;
}

void rule_asked_for_frame(struct thread *thread, uint32_t site, size_t size, enum trace_tier tier)
{
	if (tier == TRACE_TIER_FRAME || thread->in_frame)
		return;
	struct violation v = {.code = 1,
	                      .level = TRACE_LEVEL_ERROR,
	                      .site = site,
	                      .count = 1,
	                      .bytes = size,
	                      .frame = thread->frame,
	                      .occurrence = {.size_bytes = size,
	                                     .born_thread = thread->record_index,
	                                     .died_thread = UINT32_MAX,
	                                     .born_frame = thread->frame,
	                                     .died_frame = thread->frame}};
	violation_record(thread, &v);
}
