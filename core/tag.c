/* Bytes by region are taken from the thread's own totals where regions change: allocation itself does nothing for them. */
#include "core/tag.h"

#include "core/policy.h"
#include "core/runtime.h"
#include "core/trace/writer.h"

void tag_begin_recording(void)
{
	for (uint32_t i = 0; i < policy_in_force.region_count; i++) {
		struct trace_tag record = {.budget_bytes = policy_in_force.region[i].budget_bytes};
		if (i)
			base_text_copy(record.name, sizeof record.name, policy_in_force.region[i].name);
		trace_append(&trace_tags, &record, NULL);
	}
}

static bool add_region(uint32_t index, const char *name)
{
	static char names[POLICY_REGIONS_MAX][sizeof((struct trace_tag *)0)->name];
	struct trace_tag none = {0}, record = {0};
	if (!index) { /* record 0 stands for no region */
		if (!trace_append(&trace_tags, &none, NULL))
			return false;
		index = 1;
	}
	base_text_copy(record.name, sizeof record.name, name);
	base_text_copy(names[index], sizeof names[index], name);
	policy_in_force.region[index] = (struct policy_region){.name = names[index]};
	return trace_append(&trace_tags, &record, NULL) != NULL;
}

/* 0: there is none yet. One that was made here has no more of its name than a record holds. */
static uint32_t known(const char *name)
{
	char cut[sizeof((struct trace_tag *)0)->name];
	uint32_t tag = policy_region_named(&policy_in_force, name);
	base_text_copy(cut, sizeof cut, name);
	return tag ? tag : policy_region_named(&policy_in_force, cut);
}

uint32_t tag_named(const char *name)
{
	static struct base_lock lock;
	uint32_t tag = known(name);
	if (tag || !base_lock(&lock))
		return tag;
	tag = known(name);
	uint32_t count = policy_in_force.region_count;
	if (!tag && count < POLICY_REGIONS_MAX && add_region(count, name)) {
		tag = count ? count : 1;
		__atomic_store_n(&policy_in_force.region_count, tag + 1, __ATOMIC_RELEASE);
	}
	base_unlock(&lock);
	return tag;
}

uint32_t tag_of_module(const char *path)
{
	for (uint32_t i = 0; i < policy_in_force.module_count; i++)
		if (base_path_match(policy_in_force.module[i].glob, path))
			return policy_in_force.module[i].region;
	return 0;
}
