/*
 * Rules and suppressions of a policy: what is kept whole at the end of its section, or not at all, since a rule with a
 * condition left out would match far more than was meant.
 */
#include "core/registry/policy_parse.h"

#include <errno.h>
#include <string.h>

#include "core/registry/codes.h"
#include "core/registry/words.h"

#define VALUE_BYTES 256 /* more than a line that inih takes */

/* One end of A..B, with blanks around it; an empty one keeps *bytes. */
static bool parse_end(char *text, uint64_t *bytes)
{
	text += strspn(text, " \t");
	size_t length = strlen(text);
	while (length && strchr(" \t", text[length - 1]))
		text[--length] = 0;
	return length == 0 || words_number(text, "B", bytes) == 0;
}

static int set_size(struct policy_rule *rule, const char *value)
{
	char text[VALUE_BYTES];
	uint64_t min = 0, max = UINT64_MAX;
	if (strlen(value) >= sizeof text)
		return -EINVAL;
	strcpy(text, value);
	char *dots = strstr(text, "..");
	if (dots)
		*dots = 0;
	bool good = parse_end(text, &min) && (!dots || parse_end(dots + 2, &max));
	if (!dots)
		max = min;
	if (!good || min > max || strcmp(value, "..") == 0)
		return -EINVAL;
	rule->size_min = min;
	rule->size_max = max;
	return 0;
}

int policy_set_rule(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	struct policy_rule *rule = &parse->rule;
	int tier;
	switch (key->argument) {
	case RULE_TIER:
		tier = words_choice("frame|pool|heap", value);
		if (tier < 0)
			return -EINVAL;
		rule->tier = (enum trace_tier)tier;
		return 0;
	case RULE_SIZE:
		return set_size(rule, value);
	case RULE_SITE:
		if (!policy_function_alone(value))
			return -EINVAL;
		break;
	}
	const char *kept = policy_keep(parse, value);
	if (!kept)
		return -E2BIG;
	if (key->argument == RULE_TAG)
		parse->rule_tag_line = parse->line;
	*(key->argument == RULE_SITE     ? &rule->site
	  : key->argument == RULE_MODULE ? &rule->module
					 : &parse->rule_tag) = kept;
	return 0;
}
static_assert(TRACE_TIER_FRAME == 0 && TRACE_TIER_POOL == 1 && TRACE_TIER_HEAP == 2, "the words of tier");

static bool was_given(const struct policy_parse *parse, const char *name)
{
	for (size_t i = 0; i < policy_key_count; i++)
		if (policy_keys[i].section == parse->section && strcmp(policy_keys[i].name, name) == 0)
			return parse->given >> i & 1;
	return false;
}

static void close_rule(struct policy_parse *parse)
{
	struct policy *policy = parse->policy;
	const struct policy_rule *rule = &parse->rule;
	if (!was_given(parse, "tier")) {
		policy_refuse(parse, parse->section_line, "rule '", rule->name,
			      "' has no tier; add tier = frame, pool or heap");
		return;
	}
	if (policy->rule_count == POLICY_RULES_MAX) {
		policy_full(parse, "32 rules");
		return;
	}
	parse->tag[policy->rule_count] = parse->rule_tag;
	parse->tag_line[policy->rule_count] = parse->rule_tag_line;
	policy->rule[policy->rule_count++] = *rule;
}
static_assert(POLICY_RULES_MAX == 32, "the message names it");

int policy_set_suppression(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	struct policy_suppression *suppression = &parse->suppression;
	if (key->argument == SUPPRESS_CODE) {
		const struct code_info *code = policy_find_code(parse, value);
		suppression->code = code ? code->number : 0;
		return code ? 0 : -E2BIG;
	}
	if (key->argument == SUPPRESS_WHY)
		return policy_join(parse, &suppression->why, " ", value);
	suppression->path = policy_keep(parse, value);
	return suppression->path ? 0 : -E2BIG;
}

static void close_suppression(struct policy_parse *parse)
{
	static const char *const needed[][2] = {{"code", "code = FA601, the one it silences"},
						{"path", "path = GLOB over the functions of the call path, or *"},
						{"why", "why = TEXT, the reason for whoever reads it later"}};
	struct policy *policy = parse->policy;
	const struct policy_suppression *suppression = &parse->suppression;
	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
		if (was_given(parse, needed[i][0]))
			continue;
		policy_refuse(parse, parse->section_line, "suppression '", suppression->name, "' has no ", needed[i][0],
			      "; add ", needed[i][1]);
		return;
	}
	if (policy->suppression_count == POLICY_SUPPRESSIONS_MAX)
		policy_full(parse, "64 suppressions");
	else
		policy->suppression[policy->suppression_count++] = *suppression;
}
static_assert(POLICY_SUPPRESSIONS_MAX == 64, "the message names it");

void policy_close_named(struct policy_parse *parse)
{
	if (parse->broken)
		return;
	if (parse->section == SECTION_RULE)
		close_rule(parse);
	else if (parse->section == SECTION_SUPPRESS)
		close_suppression(parse);
}

void policy_finish(struct policy_parse *parse)
{
	struct policy *policy = parse->policy;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < policy->rule_count; i++) {
		struct policy_rule rule = policy->rule[i];
		if (parse->tag[i])
			rule.region = policy_region_named(policy, parse->tag[i]);
		if (!parse->tag[i] || rule.region)
			policy->rule[kept++] = rule;
		else
			policy_refuse(parse, parse->tag_line[i], "rule '", rule.name, "' names a region '",
				      parse->tag[i], "' that is nowhere; add [region ", parse->tag[i], "]");
	}
	policy->rule_count = kept;
	if (parse->source->preset && (!policy->about[0] || !policy->tried[0]))
		policy_refuse(parse, 1,
			      "a preset says what it is for and on what it was tried; add [preset] with about = TEXT ",
			      "and tried = TEXT");
}
