/*
 * The keys of a policy, each with its section, what it takes and what it does: a new key is a line of the table and a
 * setter. Setters store into the policy at once, except those of a rule or a suppression, which is kept whole at the
 * end of its section or not at all.
 */
#include "core/registry/policy_parse.h"

#include <errno.h>
#include <string.h>

#include "core/registry/codes.h"
#include "core/registry/words.h"

static const char role_words[] = "frame|worker|async|io";
static const char level_words[] = "allow|hint|warn|deny"; /* in the order of enum trace_level */

bool policy_function_alone(const char *value)
{
	size_t bytes = strlen(value);
	return options_function_valid(value) && (bytes < 2 || strcmp(value + bytes - 2, "@*") != 0);
}

/* `marker` as it is meant, its function not kept yet. */
static int add_marker(struct policy_parse *parse, struct policy_marker marker)
{
	struct policy *policy = parse->policy;
	marker.optional = parse->source->preset;
	for (uint32_t i = 0; i < policy->marker_count; i++) {
		struct policy_marker *known = &policy->marker[i];
		if (known->kind != marker.kind || known->region != marker.region || known->tokio != marker.tokio ||
		    strcmp(known->function, marker.function) != 0)
			continue;
		known->optional &= marker.optional;
		return 0;
	}
	if (policy->marker_count == POLICY_MARKERS_MAX)
		return policy_full(parse, "256 functions as markers, regions and candidates");
	marker.function = policy_keep(parse, marker.function);
	if (!marker.function)
		return -E2BIG;
	policy->marker[policy->marker_count++] = marker;
	return 0;
}

static_assert(POLICY_MARKERS_MAX == 256, "the message names it");

static int set_marker(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	enum policy_marker_kind kind = (enum policy_marker_kind)key->argument;
	if (!options_function_valid(value))
		return -EINVAL;
	return add_marker(parse, (struct policy_marker){.kind = kind,
							.function = value,
							.region = kind == POLICY_REGION ? parse->region : 0});
}

static int set_tokio(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	if (strcmp(value, "yes") != 0)
		return -EINVAL;
	return add_marker(parse, (struct policy_marker){.kind = POLICY_TASK, .function = key->name, .tokio = true});
}

static int set_stack(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	char text[512];
	struct policy_marker marker = {.kind = (enum policy_marker_kind)key->argument, .function = text};
	if (strlen(value) >= sizeof text)
		return -EINVAL;
	strcpy(text, value);
	if (policy_parse_stack(&marker, text) || !options_function_valid(text))
		return -EINVAL;
	return add_marker(parse, marker);
}

static int open_region(struct policy_parse *parse, const char *name)
{
	struct policy *policy = parse->policy;
	parse->region = policy_region_named(policy, name);
	if (parse->region)
		return 0;
	uint32_t index = policy->region_count ? policy->region_count : 1;
	if (index == POLICY_REGIONS_MAX)
		return policy_full(parse, "63 regions");
	const char *kept = policy_keep(parse, name);
	if (!kept)
		return -E2BIG;
	policy->region[index] = (struct policy_region){.name = kept};
	policy->region_count = index + 1;
	parse->region = index;
	return 0;
}
static_assert(POLICY_REGIONS_MAX == 64, "the message names it");

static int set_region_module(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	struct policy *policy = parse->policy;
	(void)key;
	if (policy->module_count == POLICY_MODULES_MAX)
		return policy_full(parse, "128 modules of regions");
	const char *glob = policy_keep(parse, value);
	if (!glob)
		return -E2BIG;
	policy->module[policy->module_count++] = (struct policy_region_module){.region = parse->region, .glob = glob};
	return 0;
}
static_assert(POLICY_MODULES_MAX == 128, "the message names it");

/* As the threshold `budget`, but that 0 would say nothing. */
static int set_budget(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	uint64_t bytes, *budget = key->section == SECTION_REGION ? &parse->policy->region[parse->region].budget_bytes
								 : &parse->policy->role_budget_bytes[parse->role];
	if (words_number(value, "B", &bytes) < 0 || bytes == 0 || bytes > 1ull << 40)
		return -EINVAL;
	*budget = bytes;
	return 0;
}

static int set_role(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	struct policy *policy = parse->policy;
	struct policy_role role = {.role = parse->role, .test = (enum policy_role_test)key->argument};
	switch (role.test) {
	case POLICY_ROLE_NAME:
		break;
	case POLICY_ROLE_START:
		if (!policy_function_alone(value))
			return -EINVAL;
		break;
	case POLICY_ROLE_CREATOR:
		role.creator = (enum trace_role)(words_choice(role_words, value) + 1);
		if (role.creator == TRACE_ROLE_NONE)
			return -EINVAL;
		break;
	case POLICY_ROLE_MAIN:
	case POLICY_ROLE_PRESENTS:
		if (strcmp(value, "yes") != 0)
			return -EINVAL;
		break;
	}
	if (policy->role_count == POLICY_ROLES_MAX)
		return policy_full(parse, "64 ways to tell a role");
	if (role.test == POLICY_ROLE_NAME || role.test == POLICY_ROLE_START) {
		role.pattern = policy_keep(parse, value);
		if (!role.pattern)
			return -E2BIG;
	}
	policy->role[policy->role_count++] = role;
	return 0;
}
static_assert(POLICY_ROLES_MAX == 64, "the message names it");
static_assert(TRACE_ROLE_FRAME == 1 && TRACE_ROLE_WORKER == 2 && TRACE_ROLE_ASYNC == 3 && TRACE_ROLE_IO == 4,
	      "role_words");

void policy_set_threshold(struct policy_parse *parse, const char *key, const char *value)
{
	struct options_error error;
	int which = options_threshold(parse->policy->threshold, key, value, &error);
	if (which >= 0) {
		parse->policy->threshold_given[which] = true;
	} else if (which == -EINVAL) {
		policy_refuse(parse, parse->line, error.line);
	} else {
		struct words_nearest nearest = {0};
		for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
			words_nearest_try(&nearest, key, codes_threshold_key((enum trace_threshold)i));
		policy_refuse(parse, parse->line, "unknown threshold '", key,
			      nearest.word ? "'; did you mean '" : "'; ",
			      nearest.word ? nearest.word : "fa-run --list-options shows them all",
			      nearest.word ? "'?" : NULL);
	}
}

const struct code_info *policy_find_code(struct policy_parse *parse, const char *text)
{
	const struct code_info *code = codes_named(text);
	struct words_nearest nearest = {0};
	if (code)
		return code;
	for (size_t i = 0; i < codes_count(); i++)
		words_nearest_try(&nearest, text, codes_at(i)->name);
	policy_refuse(parse, parse->line, "no code '", text, nearest.word ? "'; did you mean '" : "'; ",
		      nearest.word ? nearest.word : "codes are FA001 to FA902, fa-report explain all lists them",
		      nearest.word ? "'?" : NULL);
	return NULL;
}

void policy_set_level(struct policy_parse *parse, const char *key, const char *value)
{
	struct policy *policy = parse->policy;
	const struct code_info *code = policy_find_code(parse, key);
	int level = words_choice(level_words, value);
	if (!code)
		return;
	if (level < 0) {
		policy_refuse(parse, parse->line, "bad value '", value, "' for '", key,
			      "'; expected allow, hint, warn or deny");
		return;
	}
	uint32_t i = 0;
	while (i < policy->level_count && policy->level[i].code != code->number)
		i++;
	if (i == POLICY_CODES_MAX) {
		policy_full(parse, "64 levels");
		return;
	}
	policy->level_count += i == policy->level_count;
	policy->level[i] = (struct policy_level){.code = code->number, .level = (enum trace_level)level};
}
static_assert(POLICY_CODES_MAX == 64, "the message names it");
static_assert(TRACE_LEVEL_ALLOW == 0 && TRACE_LEVEL_HINT == 1 && TRACE_LEVEL_WARN == 2 && TRACE_LEVEL_ERROR == 3,
	      "level_words");

enum { OPTIONS_MODE, OPTIONS_STACKS };

static int set_option(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	static const enum trace_mode modes[] = {TRACE_MODE_OBSERVE, TRACE_MODE_ROUTE, TRACE_MODE_OFF};
	static const enum trace_stacks kinds[] = {TRACE_STACKS_FULL, TRACE_STACKS_CALLER, TRACE_STACKS_NONE};
	struct policy *policy = parse->policy;
	int choice = words_choice(key->wanted, value);
	if (choice < 0)
		return -EINVAL;
	if (key->argument == OPTIONS_MODE) {
		policy->mode = modes[choice];
		policy->mode_given = true;
	} else {
		policy->stacks = kinds[choice];
		policy->stacks_given = true;
	}
	return 0;
}

enum { PRESET_ABOUT, PRESET_TRIED };

static int set_preset(struct policy_parse *parse, const struct policy_key *key, const char *value)
{
	if (key->argument == PRESET_ABOUT)
		return policy_join(parse, &parse->policy->about, " ", value);
	return policy_join(parse, &parse->policy->tried, "; ", value);
}

#define FUNC "NAME, MODULE!NAME or MODULE+0xOFFSET, @* behind it for all threads"
#define FUNC_ALONE "NAME, MODULE!NAME or MODULE+0xOFFSET"
#define BYTES "a number of bytes (suffixes K, M, G) from 1 to 1T"

const struct policy_key policy_keys[] = {
	{SECTION_PRESET, "about", KEY_TEXT, set_preset, PRESET_ABOUT, "a text"},
	{SECTION_PRESET, "tried", KEY_MANY, set_preset, PRESET_TRIED, "a text"},
	{SECTION_MARKERS, "frame", KEY_MANY, set_marker, POLICY_FRAME, FUNC},
	{SECTION_MARKERS, "frame-scope", KEY_MANY, set_marker, POLICY_FRAME_SCOPE, FUNC},
	{SECTION_MARKERS, "task", KEY_MANY, set_marker, POLICY_TASK, FUNC},
	{SECTION_MARKERS, "task-end", KEY_MANY, set_marker, POLICY_TASK_END, FUNC},
	{SECTION_MARKERS, "stack", KEY_MANY, set_stack, POLICY_STACK,
	 "FUNC low=WHERE size=WHERE (or top=WHERE for low=; entry=WHERE), WHERE being argN or [argN+OFFSET]"},
	{SECTION_MARKERS, "switch", KEY_MANY, set_stack, POLICY_SWITCH,
	 "FUNC to=WHERE, WHERE being argN or [argN+OFFSET]"},
	{SECTION_MARKERS, "tokio", KEY_ONCE, set_tokio, 0, "yes, or no such line"},
	{SECTION_MARKERS, "await", KEY_MANY, set_marker, POLICY_AWAIT, FUNC},
	{SECTION_MARKERS, "transfer", KEY_MANY, set_marker, POLICY_TRANSFER, FUNC},
	{SECTION_AUTOMATIC, "present", KEY_MANY, set_marker, POLICY_PRESENT, FUNC},
	{SECTION_AUTOMATIC, "wait", KEY_MANY, set_marker, POLICY_WAIT, FUNC},
	{SECTION_AUTOMATIC, "sleep", KEY_MANY, set_marker, POLICY_SLEEP, FUNC},
	{SECTION_REGION, "scope", KEY_MANY, set_marker, POLICY_REGION, FUNC},
	{SECTION_REGION, "module", KEY_MANY, set_region_module, 0, "GLOB over the file names of modules"},
	{SECTION_REGION, "budget", KEY_ONCE, set_budget, 0, BYTES},
	{SECTION_ROLE, "name", KEY_MANY, set_role, POLICY_ROLE_NAME, "GLOB over the names of threads"},
	{SECTION_ROLE, "start", KEY_MANY, set_role, POLICY_ROLE_START, FUNC_ALONE},
	{SECTION_ROLE, "creator", KEY_MANY, set_role, POLICY_ROLE_CREATOR, role_words},
	{SECTION_ROLE, "main", KEY_ONCE, set_role, POLICY_ROLE_MAIN, "yes, or no such line"},
	{SECTION_ROLE, "presents", KEY_ONCE, set_role, POLICY_ROLE_PRESENTS, "yes, or no such line"},
	{SECTION_ROLE, "budget", KEY_ONCE, set_budget, 0, BYTES},
	{SECTION_RULE, "tier", KEY_ONCE, policy_set_rule, RULE_TIER, "frame, pool or heap"},
	{SECTION_RULE, "site", KEY_ONCE, policy_set_rule, RULE_SITE, FUNC_ALONE},
	{SECTION_RULE, "module", KEY_ONCE, policy_set_rule, RULE_MODULE, "GLOB over the file names of modules"},
	{SECTION_RULE, "size", KEY_ONCE, policy_set_rule, RULE_SIZE,
	 "N, A..B, ..B or A.. in bytes (suffixes K, M, G), A not above B"},
	{SECTION_RULE, "tag", KEY_ONCE, policy_set_rule, RULE_TAG, "the NAME of a [region NAME]"},
	{SECTION_SUPPRESS, "code", KEY_ONCE, policy_set_suppression, SUPPRESS_CODE,
	 "a code such as FA601, or its name"},
	{SECTION_SUPPRESS, "path", KEY_ONCE, policy_set_suppression, SUPPRESS_PATH,
	 "GLOB over the functions of the call path, or *"},
	{SECTION_SUPPRESS, "why", KEY_TEXT, policy_set_suppression, SUPPRESS_WHY, "a text"},
	{SECTION_OPTIONS, "mode", KEY_ONCE, set_option, OPTIONS_MODE, "observe|route|off"},
	{SECTION_OPTIONS, "stacks", KEY_ONCE, set_option, OPTIONS_STACKS, "full|caller|none"},
};
const size_t policy_key_count = sizeof policy_keys / sizeof policy_keys[0];
static_assert(sizeof policy_keys / sizeof policy_keys[0] <= 64, "policy_parse.given has a bit for each");

int policy_open_named(struct policy_parse *parse, const char *name)
{
	if (parse->section == SECTION_REGION)
		return open_region(parse, name);
	if (parse->section == SECTION_ROLE) {
		parse->role = (enum trace_role)(words_choice(role_words, name) + 1);
		return parse->role == TRACE_ROLE_NONE ? -EINVAL : 0;
	}
	const char *kept = policy_keep(parse, name);
	if (!kept)
		return -E2BIG;
	parse->rule = (struct policy_rule){.name = kept, .size_max = UINT64_MAX};
	parse->rule_tag = NULL;
	parse->suppression = (struct policy_suppression){.name = kept};
	return 0;
}
