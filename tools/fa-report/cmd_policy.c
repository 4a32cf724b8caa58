/* `fa-report policy --check FILE...`: what a policy says, in one screen, and each line of it that is wrong. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/codes.h"
#include "core/registry/policy.h"
#include "tools/fa-report/report.h"

#define FILE_BYTES_MAX (16u << 20)

static const char *const marker_words[] = {
	[POLICY_FRAME] = "frame",       [POLICY_FRAME_SCOPE] = "frame-scope",
	[POLICY_TASK] = "task",         [POLICY_AWAIT] = "await",
	[POLICY_TRANSFER] = "transfer", [POLICY_REGION] = "scope",
	[POLICY_TASK_END] = "task-end", [POLICY_STACK] = "stack",
	[POLICY_SWITCH] = "switch",     [POLICY_PRESENT] = "present",
	[POLICY_WAIT] = "wait",         [POLICY_SLEEP] = "sleep",
};

/* The whole file, to be freed; NULL with errno. */
static char *read_file(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "r");
	char *text = malloc(FILE_BYTES_MAX + 1);
	if (!text)
		abort();
	*bytes = file ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
	int error = !file ? errno : ferror(file) ? errno : *bytes > FILE_BYTES_MAX ? EFBIG : 0;
	if (file)
		fclose(file);
	if (error) {
		free(text);
		errno = error;
		return NULL;
	}
	return text;
}

/* A policy that says what it is for is a preset. */
static bool has_preset_section(const char *text, size_t bytes)
{
	static const char header[] = "[preset]";
	for (const char *at = text, *end = text + bytes; at && (size_t)(end - at) >= sizeof header - 1;) {
		if (memcmp(at, header, sizeof header - 1) == 0)
			return true;
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	return false;
}

static void say_error(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "%s\n", line);
}

static void label(FILE *out, const char *word)
{
	fprintf(out, "  %-12s", word);
}

static void print_markers(FILE *out, const struct policy *policy)
{
	for (int kind = POLICY_FRAME; kind <= POLICY_SLEEP; kind++) {
		uint32_t count = 0;
		for (uint32_t i = 0; i < policy->marker_count && kind != POLICY_REGION; i++) {
			if ((int)policy->marker[i].kind != kind)
				continue;
			if (count++ == 0)
				label(out, marker_words[kind]);
			fprintf(out, "%s%s", count > 1 ? ", " : "",
				policy->marker[i].tokio ? "the tasks of Tokio" : policy->marker[i].function);
		}
		fputs(count ? "\n" : "", out);
	}
	if (policy->automatic_given)
		fprintf(out, "  %-12sthe candidates above replace the built-in list\n", "automatic");
}

static void print_regions(FILE *out, const struct policy *policy)
{
	for (uint32_t region = 1; region < policy->region_count; region++) {
		label(out, "region");
		fputs(policy->region[region].name, out);
		for (uint32_t i = 0; i < policy->marker_count; i++)
			if (policy->marker[i].region == region)
				fprintf(out, ", scope %s", policy->marker[i].function);
		for (uint32_t i = 0; i < policy->module_count; i++)
			if (policy->module[i].region == region)
				fprintf(out, ", module %s", policy->module[i].glob);
		if (policy->region[region].budget_bytes)
			fprintf(out, ", budget %s", text_bytes((double)policy->region[region].budget_bytes));
		fputc('\n', out);
	}
}

static void begin_role_item(FILE *out, uint32_t role, uint32_t before)
{
	if (before) {
		fputs(", ", out);
		return;
	}
	label(out, "role");
	fprintf(out, "%s: ", text_role(role));
}

static void print_roles(FILE *out, const struct policy *policy)
{
	for (uint32_t role = TRACE_ROLE_FRAME; role <= TRACE_ROLE_IO; role++) {
		uint32_t count = 0;
		for (uint32_t i = 0; i < policy->role_count; i++) {
			const struct policy_role *test = &policy->role[i];
			if (test->role != role)
				continue;
			begin_role_item(out, role, count++);
			switch (test->test) {
			case POLICY_ROLE_NAME:
				fprintf(out, "name %s", test->pattern);
				break;
			case POLICY_ROLE_START:
				fprintf(out, "start %s", test->pattern);
				break;
			case POLICY_ROLE_CREATOR:
				fprintf(out, "made by %s", text_role(test->creator));
				break;
			case POLICY_ROLE_MAIN:
				fputs("the main thread", out);
				break;
			case POLICY_ROLE_PRESENTS:
				fputs("who calls a frame marker", out);
				break;
			}
		}
		if (policy->role_budget_bytes[role]) {
			begin_role_item(out, role, count++);
			fprintf(out, "budget %s", text_bytes((double)policy->role_budget_bytes[role]));
		}
		fputs(count ? "\n" : "", out);
	}
}

static void print_rules(FILE *out, const struct policy *policy)
{
	for (uint32_t i = 0; i < policy->rule_count; i++) {
		const struct policy_rule *rule = &policy->rule[i];
		label(out, "rule");
		fprintf(out, "%s: tier %s", rule->name, text_tier((int)rule->tier));
		if (rule->site)
			fprintf(out, ", site %s", rule->site);
		if (rule->module)
			fprintf(out, ", module %s", rule->module);
		if (rule->size_min > 0)
			fprintf(out, ", from %" PRIu64 " bytes", rule->size_min);
		if (rule->size_max < UINT64_MAX)
			fprintf(out, ", to %" PRIu64 " bytes", rule->size_max);
		if (rule->region)
			fprintf(out, ", tag %s", policy->region[rule->region].name);
		fputc('\n', out);
	}
}

static void print_limits(FILE *out, const struct policy *policy)
{
	static const char *const levels[] = {"allow", "hint", "warn", "deny"};
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++) {
		if (!policy->threshold_given[i])
			continue;
		label(out, "threshold");
		fprintf(out, "%s %" PRIu64 "\n", codes_threshold_key((enum trace_threshold)i), policy->threshold[i]);
	}
	for (uint32_t i = 0; i < policy->level_count; i++) {
		label(out, "level");
		fprintf(out, "FA%03u %s: %s\n", policy->level[i].code, codes_find(policy->level[i].code)->name,
			levels[policy->level[i].level]);
	}
	for (uint32_t i = 0; i < policy->suppression_count; i++) {
		const struct policy_suppression *suppression = &policy->suppression[i];
		label(out, "suppress");
		fprintf(out, "%s: FA%03u at %s, because: %s\n", suppression->name, suppression->code, suppression->path,
			suppression->why);
	}
	if (policy->mode_given)
		fprintf(out, "  %-12smode %s\n", "option", text_mode(policy->mode));
	if (policy->stacks_given)
		fprintf(out, "  %-12sstacks %s\n", "option", text_stacks(policy->stacks));
}

static int check(FILE *out, const char *path)
{
	static struct policy policy;
	struct policy_source source = {.name = path};
	char *text = read_file(path, &source.bytes);
	if (!text) {
		fprintf(stderr, "fa-report: %s: %s\n", path, strerror(errno));
		return 2;
	}
	source.text = text;
	source.preset = has_preset_section(text, source.bytes);
	policy_init(&policy);
	uint32_t errors = policy_read(&policy, &source, say_error, NULL);
	free(text);
	if (errors)
		return 2;

	fprintf(out, "%s: %s\n", path, source.preset ? "a preset, nothing wrong" : "nothing wrong");
	if (policy.about[0])
		fprintf(out, "  %-12s%s\n", "about", policy.about);
	if (policy.tried[0])
		fprintf(out, "  %-12s%s\n", "tried", policy.tried);
	print_markers(out, &policy);
	print_regions(out, &policy);
	print_roles(out, &policy);
	print_rules(out, &policy);
	print_limits(out, &policy);
	return 0;
}

int cmd_policy(FILE *out, char *const *paths)
{
	int status = 0;
	for (; *paths; paths++)
		if (check(out, *paths))
			status = 2;
	return status;
}
