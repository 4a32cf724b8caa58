/* Bytes by region are taken from the thread's own totals where regions change: allocation itself does nothing for them. */
#include "core/tag.h"

#include "core/policy.h"
#include "core/runtime.h"
#include "core/trace/writer.h"
#include "core/violation.h"

void tag_begin_recording(void)
{
	for (uint32_t i = 0; i < policy_in_force.region_count; i++) {
		struct trace_tag record = {.budget_bytes = policy_in_force.region[i].budget_bytes};
		if (i)
			base_text_copy(record.name, sizeof record.name, policy_in_force.region[i].name);
		trace_append(&trace_tags, &record, NULL);
	}
}

void tag_frame_begin(struct thread *thread)
{
	thread->tag_from = tag_bytes_so_far(thread);
	for (uint32_t tag = 0; tag < policy_in_force.region_count; tag++)
		thread->tag_bytes[tag] = 0;
}

void tag_frame_end(struct thread *thread)
{
	tag_account(thread);
	for (uint32_t tag = 1; tag < policy_in_force.region_count && tag < trace_count(&trace_tags); tag++) {
		struct trace_tag *record = trace_at(&trace_tags, tag);
		uint64_t bytes = thread->tag_bytes[tag];
		if (bytes > record->frame_bytes_max)
			record->frame_bytes_max = bytes;
		if (!record->budget_bytes || bytes <= record->budget_bytes)
			continue;
		trace_add(&record->frames_over, 1);
		violation_budget(thread, tag, 0, bytes, record->budget_bytes);
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

uint32_t tag_named(const char *name)
{
	static struct base_lock lock;
	uint32_t tag = policy_region_named(&policy_in_force, name);
	if (tag || !base_lock(&lock))
		return tag;
	tag = policy_region_named(&policy_in_force, name);
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
