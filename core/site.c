/* Sites hang on the nodes of the call tree, under its lock: only a path that was never seen by the asking thread takes it. */
#define _GNU_SOURCE
#include "core/site.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/counter.h"
#include "core/node.h"
#include "core/path/module.h"
#include "core/path/tree.h"
#include "core/policy.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/slot.h"
#include "core/tag.h"
#include "core/tier/pool.h"
#include "core/trace/writer.h"

static_assert(POLICY_REGIONS_MAX <= TREE_TAGS, "a region is the tag of a path");

#define TAGGED_HASH (1u << 16)
#define TABLE_BYTES (NODE_MAX * sizeof(uint32_t) + TAGGED_HASH * sizeof(uint64_t))

static struct {
	uint64_t *tagged_site; /* in regions: node << 32 | tag << 24 | site, open addressing */
	uint32_t *site_of_node; /* site, 0 = none */
} table;

/* Under the lock. Whole paths: one bit for each, by the hash of its pcs. Where code is unloaded they stay, and others of the
   same addresses are taken for them. */
#define SET_BITS (1u << 19)
struct path_set {
	uint64_t bits[SET_BITS / 64];
	bool used;
};
static struct path_set whole; /* those that may have a site */
static struct path_set lost; /* those that have none, which was counted */

static uint32_t set_bit(const uintptr_t *pcs, size_t count)
{
	uint64_t h = 0;
	for (size_t i = 0; i < count; i++)
		h = (h ^ pcs[i]) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 40) & (SET_BITS - 1);
}

static bool set_has(const struct path_set *set, const uintptr_t *pcs, size_t count)
{
	uint32_t bit = set_bit(pcs, count);
	return set->bits[bit / 64] >> bit % 64 & 1;
}

static void set_add(struct path_set *set, const uintptr_t *pcs, size_t count)
{
	uint32_t bit = set_bit(pcs, count);
	set->bits[bit / 64] |= 1ull << bit % 64;
	set->used = true;
}

/* Its pages are none yet where it was not used. */
static void set_clear(struct path_set *set)
{
	if (set->used)
		memset(set, 0, sizeof *set);
}

static uint32_t class_sites[TRACE_ROLE_IO + 1][POLICY_REGIONS_MAX][SITE_CLASSES];
static bool classes_used;

int site_init(void)
{
	void *memory = base_map(TABLE_BYTES);
	if (!memory)
		return -ENOMEM;
	table.tagged_site = memory;
	table.site_of_node = (uint32_t *)(table.tagged_site + TAGGED_HASH);
	if (classes_used) /* in the child of a fork */
		memset(class_sites, 0, sizeof class_sites);
	classes_used = false;
	rule_forget_sites();
	set_clear(&whole);
	set_clear(&lost);
	trace_append(&trace_sites, NULL, &(uint32_t){0}); /* site 0: unknown */
	return 0;
}

/* Lock held. Where the site of a node under a region is kept; no table of its own for what lies in none. */
static uint64_t *tagged_place(uint32_t node, uint32_t tag)
{
	uint64_t key = (uint64_t)node << 8 | tag;
	uint32_t at = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 48) & (TAGGED_HASH - 1);
	while (table.tagged_site[at] && table.tagged_site[at] >> 24 != key)
		at = (at + 1) & (TAGGED_HASH - 1);
	return &table.tagged_site[at];
}

static uint32_t site_known(uint32_t node, uint32_t tag)
{
	return tag ? (uint32_t)*tagged_place(node, tag) & 0xffffff : table.site_of_node[node];
}

static uint32_t site_add(uint32_t node, bool folded, uint32_t tag, const uintptr_t *pcs, size_t count)
{
	struct trace_site site = {.node = node, .folded = folded, .tag = tag};
	uint32_t index;
	if (unlikely(policy_in_force.module_count) && tag) {
		uint32_t owner = tag_of_module(rule_allocating_module(pcs, count));
		site.tag_owner = owner != tag ? owner : 0;
	}
	if (!trace_append_alone(&trace_sites, &site, &index))
		return 0;
	if (tag)
		*tagged_place(node, tag) = ((uint64_t)node << 8 | tag) << 24 | index;
	else
		table.site_of_node[node] = index;
	if (unlikely(policy_in_force.rule_count))
		rule_settle(index, tag, pcs, count);
	return index;
}

/*
 * How much of a new path is kept, by how full the table is: whole at first, then ever shorter suffixes. An engine's
 * start-up may have a hundred thousand distinct paths, each used once: where frames are marked, paths outside them may
 * only use a part of the table, so that the frames' own find room.
 */
static size_t depth_kept(void)
{
	static const struct {
		uint8_t percent_in, percent_out;
		uint16_t depth;
	} steps[] = {{70, 40, PATH_DEPTH_MAX}, {80, 50, 8}, {90, 58, 4}, {97, 64, 2}};
	bool scarce = (policy_marks_frames() || trace_header->automatic) && !thread_self->in_frame;
	uint64_t used = (uint64_t)trace_count(&trace_sites) * 100 / trace_sites.max;
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
		if (used < (scarce ? steps[i].percent_out : steps[i].percent_in))
			return steps[i].depth;
	return 1;
}

/* Lock held. The site of the `depth` innermost pcs; 0 when it is new and cannot be added. */
static uint32_t site_at_depth(const uintptr_t *pcs, size_t count, size_t depth, bool cut, bool may_add, uint32_t tag)
{
	bool folded = depth < count;
	uint32_t node = node_of_path(pcs, folded ? depth : count, cut || folded, may_add);
	if (node == UINT32_MAX)
		return 0;
	uint32_t site = site_known(node, tag);
	if (!site && may_add)
		site = site_add(node, folded, tag, pcs, count);
	if (site && !folded)
		set_add(&whole, pcs, count); /* other pcs may have found it, by the same node */
	return site;
}

/* Lock held. Counts a path that is not kept whole, however often and by how many threads it is asked for. */
static void lose_whole(const uintptr_t *pcs, size_t count)
{
	if (set_has(&lost, pcs, count))
		return;
	set_add(&lost, pcs, count);
	trace_loss(TRACE_LOSS_SITES, 1);
}

uint32_t site_intern(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	if (!count || !node_lock()) {
		trace_loss(TRACE_LOSS_STACKS, 1);
		*kept = 0;
		return 0;
	}
	if (cut)
		trace_loss(TRACE_LOSS_DEPTH, 1);
	static uint32_t asked;
	if (!(++asked & 1023)) /* a program without frames that is killed has its figures in the recording too */
		slot_note_path_stats();
	count = node_path_part(pcs, count);
	size_t depth = depth_kept();
	uint32_t site = 0;
	if (depth >= count || set_has(&whole, pcs, count))
		site = site_at_depth(pcs, count, count, cut, depth >= count, tag);
	if (!site && base_hurries() && depth >= count) { /* there is room, and somebody else at it */
		trace_loss(TRACE_LOSS_STACKS, 1);
	} else if (!site) {
		lose_whole(pcs, count);
		while (depth >= count) /* that was tried */
			depth /= 2;
		for (; !site && depth; depth /= 2) {
			site = site_at_depth(pcs, count, depth, cut, true, tag);
			*kept = site ? depth : *kept;
		}
	}
	if (!site && base_hurries())
		*kept = 0;
	node_unlock();
	return site;
}

uint32_t site_intern_counter(void *thread, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	size_t asked = *kept;
	uint32_t site = site_intern(pcs, count, cut, tag, kept);
	const struct trace_counter *counter = counter_of(thread, site);
	if (unlikely(counter->site != site)) /* there is no room, or somebody has the lock */
		*kept = base_hurries() ? 0 : asked;
	return counter_place(counter);
}

/* stacks=none: one site for each size class and role. */
struct trace_counter *site_of_class(struct thread *thread, size_t size)
{
	uint32_t class_index = site_class(size);
	size_t class_bytes = (size_t)1 << class_index;
	if (!node_lock())
		return counter_of(thread, 0);
	uint32_t *site = &class_sites[thread->role][thread->tag][class_index], made = *site;
	classes_used = true;
	if (!made) {
		struct trace_site record = {.class_bytes =
						    (uint32_t)(class_bytes < UINT32_MAX ? class_bytes : UINT32_MAX),
					    .role = thread->role,
					    .tag = thread->tag};
		if (!trace_append_alone(&trace_sites, &record, &made))
			made = 0;
		else if (unlikely(policy_in_force.rule_count))
			rule_settle(made, thread->tag, NULL, 0);
		*site = made;
	}
	node_unlock();
	struct trace_counter *counter = counter_of(thread, made);
	if (made && thread->groups[made / TRACE_GROUP_SITES]) {
		struct thread_class *known =
			&thread->class_table[thread->classes - thread->class_table + site_place(size)];
		*known = (struct thread_class){counter, counter_place(counter), pool_class(block_usable(size))};
	}
	return counter;
}

struct trace_counter *site_of_caller(struct thread *thread, const uintptr_t *fp)
{
	uintptr_t caller = fp[1], key = caller ^ (uintptr_t)thread->tag << 56;
	uint32_t slot = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 56);
	uint32_t changes = atomic_load_explicit(&module_changes, memory_order_acquire);
	if (unlikely(thread->caller_changes != changes)) { /* other code may be where theirs was */
		memset(thread->caller_site, 0, sizeof thread->caller_site);
		thread->caller_changes = changes;
	}
	if (likely(thread->caller_site[slot].caller == key))
		return counter_at(thread->caller_site[slot].place);
	size_t kept = 1;
	if (runtime.stacks == TRACE_STACKS_FULL)
		trace_loss(TRACE_LOSS_STACKS, 1);
	node_notice_module(caller);
	uint32_t place = site_intern_counter(thread, &caller, 1, false, thread->tag, &kept);
	if (kept) {
		thread->caller_site[slot].place = place;
		thread->caller_site[slot].caller = key;
	}
	return counter_at(place);
}

void site_child(void)
{
	munmap(table.tagged_site, TABLE_BYTES);
}
