/* Groups of counters are handed to slots as their threads come to the sites; they stay theirs. */
#include "core/counter.h"

#include "core/policy.h"
#include "core/rule.h"
#include "core/segment.h"

/* The group of counters that has no label yet: the two arrays stay parallel. */
static struct {
	struct base_lock lock;
	struct trace_group *group; /* NULL: there is none */
	uint32_t index;
} unlabelled;

uint16_t counter_sites[BLOCK_COUNTER_MASK + 1];

struct trace_counter *counter_of_slow(struct thread *thread, uint32_t site)
{
	uint32_t group_index = site / TRACE_GROUP_SITES;
	if (base_lock(&unlabelled.lock)) {
		uint32_t label_index;
		struct trace_group_label label = {.slot = thread->slot, .first_site = UINT32_MAX};
		if (!unlabelled.group)
			unlabelled.group = trace_append(&trace_groups, NULL, &unlabelled.index);
		struct trace_group *group = unlabelled.group;
		struct trace_group_label *made = group ? trace_append(&trace_labels, &label, &label_index) : NULL;
		if (made) {
			fa_assert(unlabelled.index == label_index);
			__atomic_store_n(&made->first_site, group_index * TRACE_GROUP_SITES, __ATOMIC_RELEASE);
			for (uint32_t i = 0; i < TRACE_GROUP_SITES; i++) {
				group->counter[i].site = group_index * TRACE_GROUP_SITES + i;
				counter_sites[counter_place(&group->counter[i])] = (uint16_t)group->counter[i].site;
			}
			thread->groups[group_index] = group->counter;
			/* After the pointer is there: rules that are settled meanwhile are seen by one of both. */
			atomic_thread_fence(memory_order_seq_cst);
			for (uint32_t i = 0; i < TRACE_GROUP_SITES && policy_in_force.rule_count; i++)
				rule_apply(&group->counter[i], rule_of_site(group->counter[i].site));
			unlabelled.group = NULL;
		}
		base_unlock(&unlabelled.lock);
	}
	if (thread->groups[group_index])
		return &thread->groups[group_index][site % TRACE_GROUP_SITES];
	trace_loss(TRACE_LOSS_COUNTERS, 1);
	return &thread->groups[0][0];
}

uint32_t block_site_doubted(const struct block *block)
{
	uint64_t birth = block_birth_told(block), id = block_segment_of(birth);
	uintptr_t counter = (uintptr_t)counter_at(birth & BLOCK_COUNTER_MASK);
	if (!trace_header || segment_is_inherited(id) || !segment_was_leased(id))
		return 0;
	for (uint32_t i = 0; i < trace_groups.chunks; i++) {
		uintptr_t offset = counter - (uintptr_t)trace_groups.base[i];
		if (offset < trace_groups.per_chunk * sizeof(struct trace_group) &&
		    !(offset % sizeof(struct trace_counter)))
			return ((struct trace_counter *)counter)->site;
	}
	return 0;
}

void counter_child(void)
{
	unlabelled.group = NULL;
}
