/* First match wins, in the order of the policy. Which rules hold for a site but for the size is settled when the site is
   made, under the site table's lock. */
#include "core/rule.h"

#include "core/mark/mark.h"
#include "core/node.h"
#include "core/policy.h"
#include "core/slot.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define SITES_MAX (1u << 15)

static uint32_t of_site[SITES_MAX];
#define RULE_SPANS_MAX 1024u

/* Code of the functions that rules' `site` keys name. Added while markers are bound. */
static struct {
	uintptr_t start, end; /* end 0: the function has gone with its module */
	uint32_t rule;
} rule_spans[RULE_SPANS_MAX];
static _Atomic uint32_t rule_span_count;

static bool add_rule_span(void *context, const struct mark_function *function)
{
	uint32_t count = atomic_load(&rule_span_count), at = 0;
	while (at < count && rule_spans[at].end)
		at++;
	if (at == RULE_SPANS_MAX) {
		trace_loss(TRACE_LOSS_MARKERS, 1);
		return false;
	}
	uintptr_t start = function->address;
	size_t size = function->size;
	if (!size) /* module+0xoffset: anywhere in the function */
		mark_function_extent(&start, &size);
	rule_spans[at].rule = *(const uint32_t *)context;
	rule_spans[at].start = start;
	__atomic_store_n(&rule_spans[at].end, start + (size ? size : 1), __ATOMIC_RELEASE);
	if (at == count)
		atomic_store(&rule_span_count, count + 1);
	return true;
}

void rule_forget(uintptr_t start, uintptr_t end)
{
	for (uint32_t i = 0; i < atomic_load(&rule_span_count); i++)
		if (rule_spans[i].start >= start && rule_spans[i].start < end)
			__atomic_store_n(&rule_spans[i].end, 0, __ATOMIC_RELEASE);
}

void rule_bind(void)
{
	const char *reason;
	for (uint32_t rule = 0; rule < policy_in_force.rule_count; rule++)
		if (policy_in_force.rule[rule].site)
			finder_each(policy_in_force.rule[rule].site, add_rule_span, &rule, &reason);
}

static bool passes_through(uint32_t rule, const uintptr_t *pcs, size_t count)
{
	for (uint32_t s = 0; s < atomic_load(&rule_span_count); s++)
		for (size_t i = 0; rule_spans[s].rule == rule && i < count; i++)
			if (pcs[i] > rule_spans[s].start && pcs[i] <= rule_spans[s].end)
				return true;
	return false;
}

const char *rule_allocating_module(const uintptr_t *pcs, size_t count)
{
	static const char *const passers[] = {"*libstdc++.so*", "*libc++.so*", "*libc++abi.so*", "*libc.so*",
					      "*ld-linux*"};
	const char *path = "";
	for (size_t i = 0; i < count; i++) {
		uint32_t module = node_module_of(pcs[i]);
		if (module == TRACE_NO_MODULE)
			return "";
		path = ((struct trace_module *)trace_at(&trace_modules, module))->path;
		bool passes = false;
		for (size_t p = 0; p < sizeof passers / sizeof passers[0]; p++)
			passes |= base_glob_match(passers[p], path);
		if (!passes)
			break;
	}
	return path;
}

static uint32_t rules_of(const uintptr_t *pcs, size_t count, uint32_t tag)
{
	uint32_t rules = 0;
	for (uint32_t n = 0; n < policy_in_force.rule_count; n++) {
		const struct policy_rule *rule = &policy_in_force.rule[n];
		bool fits = (!rule->region || rule->region == tag) && (!rule->site || passes_through(n, pcs, count)) &&
			    (!rule->module || base_path_match(rule->module, rule_allocating_module(pcs, count)));
		rules |= (uint32_t)fits << n;
	}
	return rules;
}

void rule_forget_sites(void)
{
	for (uint32_t site = 0; site < SITES_MAX && policy_in_force.rule_count; site++)
		of_site[site] = 0;
}

uint32_t rule_of_site(uint32_t site)
{
	return site < SITES_MAX ? of_site[site] : 0;
}

void rule_apply(struct trace_counter *counter, uint32_t rules)
{
	if (!rules)
		return;
	__atomic_store_n(&counter->rules, rules, __ATOMIC_RELAXED);
	__atomic_fetch_or(&counter->route, TRACE_ROUTE_RULED, __ATOMIC_RELAXED);
}

/* Slots that have counters for the site's group already read its rules there. */
void rule_settle(uint32_t site, uint32_t tag, const uintptr_t *pcs, size_t count)
{
	uint32_t rules = rules_of(pcs, count, tag);
	if (site >= SITES_MAX)
		return;
	of_site[site] = rules;
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t slot = 0; rules && slot < slot_count(); slot++) {
		struct trace_counter *group = slot_at(slot)->groups[site / TRACE_GROUP_SITES];
		if (group)
			rule_apply(&group[site % TRACE_GROUP_SITES], rules);
	}
}

uint32_t rule_tier(uint32_t rules, size_t size)
{
	for (; rules; rules &= rules - 1) {
		const struct policy_rule *rule = &policy_in_force.rule[__builtin_ctz(rules)];
		if (size >= rule->size_min && size <= rule->size_max)
			return (uint32_t)rule->tier + 1;
	}
	return 0;
}

void rule_asked_for_frame(struct thread *thread, uint32_t site, size_t size, enum trace_tier tier)
{
	bool in_task = thread->in_task || thread->role == TRACE_ROLE_ASYNC;
	if (!in_task && (tier == TRACE_TIER_FRAME || thread->in_frame))
		return;
	struct violation v = {.code = in_task ? 701 : 1,
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
