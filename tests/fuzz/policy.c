/*
 * libFuzzer target of the policy parser (`make fuzz`): any bytes, read twice into one policy, as preset and as policy.
 * What it checks beside the sanitizers: counts agree with the errors told, every error is one clean line that says where,
 * no count passes its table, every word lies terminated in the policy's text, errno is untouched.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/policy.h"

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct policy policy;

static void count_error(void *context, const char *line)
{
	++*(uint32_t *)context;
	MUST(strncmp(line, "soup.ini:", 9) == 0 && line[9] >= '1' && line[9] <= '9');
	for (; *line; line++)
		MUST((unsigned char)*line >= ' ' && *line != 0x7f);
}

static void check_word(const char *word, bool needed)
{
	MUST(word || !needed);
	if (!word || !*word)
		return;
	MUST(word >= policy.text && word < policy.text + policy.text_used);
	MUST(memchr(word, 0, (size_t)(policy.text + policy.text_used - word)));
}

static void check_tables(void)
{
	MUST(policy.text_used <= sizeof policy.text);
	MUST(policy.marker_count <= POLICY_MARKERS_MAX && policy.region_count <= POLICY_REGIONS_MAX);
	MUST(policy.module_count <= POLICY_MODULES_MAX && policy.role_count <= POLICY_ROLES_MAX);
	MUST(policy.rule_count <= POLICY_RULES_MAX && policy.level_count <= POLICY_CODES_MAX);
	MUST(policy.suppression_count <= POLICY_SUPPRESSIONS_MAX);
	for (uint32_t i = 0; i < policy.marker_count; i++) {
		check_word(policy.marker[i].function, true);
		MUST((policy.marker[i].kind == POLICY_REGION) == (policy.marker[i].region > 0));
		MUST(policy.marker[i].region < POLICY_REGIONS_MAX);
		MUST(options_function_valid(policy.marker[i].function));
	}
	for (uint32_t i = 1; i < policy.region_count; i++) {
		check_word(policy.region[i].name, true);
		MUST(policy_region_named(&policy, policy.region[i].name) == i);
	}
	for (uint32_t i = 0; i < policy.module_count; i++) {
		check_word(policy.module[i].glob, true);
		MUST(policy.module[i].region > 0 && policy.module[i].region < policy.region_count);
	}
	for (uint32_t i = 0; i < policy.role_count; i++) {
		check_word(policy.role[i].pattern, policy.role[i].test <= POLICY_ROLE_START);
		MUST(policy.role[i].role >= TRACE_ROLE_FRAME && policy.role[i].role <= TRACE_ROLE_IO);
	}
	for (uint32_t i = 0; i < policy.rule_count; i++) {
		check_word(policy.rule[i].name, true);
		check_word(policy.rule[i].site, false);
		check_word(policy.rule[i].module, false);
		MUST(policy.rule[i].size_min <= policy.rule[i].size_max && policy.rule[i].tier <= TRACE_TIER_HEAP);
		MUST(policy.rule[i].region == 0 || policy.rule[i].region < policy.region_count);
	}
	for (uint32_t i = 0; i < policy.suppression_count; i++) {
		check_word(policy.suppression[i].name, true);
		check_word(policy.suppression[i].path, true);
		check_word(policy.suppression[i].why, true);
		MUST(policy.suppression[i].code && policy.suppression[i].why[0]);
	}
	check_word(policy.about, true);
	check_word(policy.tried, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct policy_source source = {.name = "soup.ini", .text = (const char *)data, .bytes = bytes};
	policy_init(&policy);
	errno = EXDEV;
	for (int round = 0; round < 2; round++) {
		uint32_t told = 0, before = policy.errors;
		source.preset = round == 1;
		MUST(policy_read(&policy, &source, count_error, &told) == told);
		MUST(policy.errors - before == told);
		check_tables();
	}
	MUST(errno == EXDEV);
	return 0;
}
