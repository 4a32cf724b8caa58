/* The call tree is a hash table from (parent, module, offset) to node, kept outside the recording; sites hang on nodes.
   One lock guards both: only a path that was never seen by the asking thread takes it. */
#define _GNU_SOURCE
#include "core/site.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mark/mark.h"
#include "core/path/path.h"
#include "core/policy.h"
#include "core/runtime.h"
#include "core/tag.h"
#include "core/trace/writer.h"

#define NODES_MAX (1u << 18)
#define NODE_HASH (1u << 19)
#define SITES_MAX (1u << 15)
#define TAGGED_HASH (1u << 16)
#define TABLE_BYTES ((NODE_HASH + NODES_MAX + SITES_MAX) * sizeof(uint32_t) + TAGGED_HASH * sizeof(uint64_t))

static struct {
	struct base_lock lock;
	uint32_t *hash;         /* node index + 1 */
	uint32_t *site_of_node; /* site, 0 = none */
	uint32_t class_site[64][8][POLICY_REGIONS_MAX]; /* stacks=none: by class, role and region */
	uint64_t *tagged_site;  /* in regions: node << 32 | tag << 24 | site, open addressing */
	uint32_t *rules;        /* by site; NULL without rules */
} table;

int site_init(void)
{
	size_t bytes = TABLE_BYTES;
	uint32_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	table.hash = memory;
	table.site_of_node = memory + NODE_HASH;
	table.rules = memory + NODE_HASH + NODES_MAX;
	table.tagged_site = (uint64_t *)(memory + NODE_HASH + NODES_MAX + SITES_MAX);
	memset(table.class_site, 0, sizeof table.class_site);
	uint32_t index;
	trace_append(&trace_nodes, NULL, &index); /* node 0: the root */
	trace_append(&trace_sites, NULL, &index); /* site 0: unknown */
	return 0;
}

void site_modules_sync(void)
{
	size_t count = path_modules_count();
	while (trace_count(&trace_modules) < count) {
		const struct path_module *module = path_module_at(trace_count(&trace_modules));
		struct trace_module record = {.base = module->base, .start = module->start, .end = module->end};
		record.build_id_bytes = (uint32_t)(module->build_id_bytes < sizeof record.build_id ? module->build_id_bytes
		                                                                                   : sizeof record.build_id);
		for (uint32_t i = 0; i < record.build_id_bytes; i++)
			record.build_id[i] = module->build_id[i];
		base_text_copy(record.path, sizeof record.path, module->path ? module->path : "");
		if (!trace_append(&trace_modules, &record, NULL)) {
			trace_loss(TRACE_LOSS_MODULES, 1);
			break;
		}
	}
	for (uint32_t i = 0; i < trace_count(&trace_modules); i++) {
		struct trace_module *record = trace_at(&trace_modules, i);
		if (!record->unloaded_ns && path_module_at(i)->unloaded)
			record->unloaded_ns = base_now_ns();
	}
}

/* A module that was loaded since is noticed before any lock is taken: dl_iterate_phdr takes the loader's. */
static void notice_module_of(uintptr_t address)
{
	if (path_module_of(address) == UINT32_MAX)
		path_modules_refresh();
}

uint32_t site_module_of(uintptr_t address)
{
	uint32_t module = path_module_of(address);
	if (module != UINT32_MAX && module >= trace_count(&trace_modules))
		site_modules_sync();
	return module < trace_count(&trace_modules) ? module : TRACE_NO_MODULE;
}

static struct trace_node node_record(uint32_t parent, uintptr_t pc, bool cut)
{
	struct trace_node node = {.parent = parent, .module = site_module_of(pc), .offset = pc};
	if (node.module != TRACE_NO_MODULE)
		node.offset = pc - ((struct trace_module *)trace_at(&trace_modules, node.module))->base;
	node.offset = TRACE_NODE_OFFSET(node.offset) | (cut ? TRACE_NODE_CUT : 0);
	return node;
}

static uint64_t node_hash(const struct trace_node *node)
{
	uint64_t h = (node->offset ^ (uint64_t)node->module << 40) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 29 ^ node->parent) * 0xbf58476d1ce4e5b9u;
	return h ^ h >> 32;
}

/* Lock held. The node for `node`'s contents; UINT32_MAX when it is new and the tree is full or must not grow. */
static uint32_t node_intern(const struct trace_node *node, bool may_add)
{
	uint32_t at = (uint32_t)node_hash(node) & (NODE_HASH - 1);
	for (; table.hash[at]; at = (at + 1) & (NODE_HASH - 1)) {
		const struct trace_node *known = trace_at(&trace_nodes, table.hash[at] - 1);
		if (known->parent == node->parent && known->offset == node->offset && known->module == node->module)
			return table.hash[at] - 1;
	}
	uint32_t index;
	if (!may_add || !trace_append(&trace_nodes, node, &index))
		return UINT32_MAX;
	table.hash[at] = index + 1;
	return index;
}

/* A signal handler's path ends at the trampoline that the kernel returns through: where the interrupted code stood is
   no reason for an allocation, and would make every interrupted instruction a path of its own. */
static size_t without_interrupted(const uintptr_t *pcs, size_t count)
{
	static const uint8_t trampoline[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; /* mov $15, %rax; syscall */
	for (size_t i = 1; i < count; i++)
		if (path_module_of(pcs[i]) != UINT32_MAX && !memcmp((const void *)pcs[i], trampoline, sizeof trampoline))
			return i + 1;
	return count;
}

/* Frames of ours on the path: those that wait for a marked function to return. */
static bool is_own(uintptr_t pc)
{
	extern const char own_start[] __asm__("__ehdr_start"), own_end[] __asm__("_end");
	return pc >= (uintptr_t)own_start && pc < (uintptr_t)own_end;
}

/* Lock held. The node of the `count` innermost pcs. */
static uint32_t path_node(const uintptr_t *pcs, size_t count, bool cut, bool may_add)
{
	uint32_t parent = 0;
	for (size_t i = count; i--;) {
		if (is_own(pcs[i]))
			continue;
		struct trace_node node = node_record(parent, pcs[i], cut && i == count - 1);
		parent = node_intern(&node, may_add);
		if (parent == UINT32_MAX)
			break;
	}
	return parent;
}

/* ---- rules of the policy ------------------------------------------------------------------------------------------ */

#define RULE_SPANS_MAX 1024u

/* Code of the functions that rules' `site` keys name. Added while markers are bound. */
static struct {
	uintptr_t start, end;
	uint32_t rule;
} rule_spans[RULE_SPANS_MAX];
static _Atomic uint32_t rule_span_count;

static bool add_rule_span(void *context, const struct mark_function *function)
{
	uint32_t count = atomic_load(&rule_span_count);
	if (count == RULE_SPANS_MAX) {
		trace_loss(TRACE_LOSS_MARKERS, 1);
		return false;
	}
	uintptr_t start = function->address;
	size_t size = function->size;
	if (!size) /* module+0xoffset: anywhere in the function */
		mark_function_extent(&start, &size);
	rule_spans[count].rule = *(const uint32_t *)context;
	rule_spans[count].start = start;
	rule_spans[count].end = start + (size ? size : 1);
	atomic_store(&rule_span_count, count + 1);
	return true;
}

void site_bind_rules(void)
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

/* Of the code that asked for memory: operator new and its like belong to their callers. */
static const char *allocating_module(const uintptr_t *pcs, size_t count)
{
	static const char *const passers[] = {"*libstdc++.so*", "*libc++.so*", "*libc++abi.so*", "*libc.so*", "*ld-linux*"};
	const char *path = "";
	for (size_t i = 0; i < count; i++) {
		uint32_t module = site_module_of(pcs[i]);
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

static bool module_fits(const char *glob, const char *path)
{
	const char *file = path;
	for (const char *c = path; *c; c++)
		if (*c == '/')
			file = c + 1;
	return base_glob_match(glob, file) || base_glob_match(glob, path);
}

static uint32_t rules_of(const uintptr_t *pcs, size_t count, uint32_t tag)
{
	uint32_t rules = 0;
	for (uint32_t n = 0; n < policy_in_force.rule_count; n++) {
		const struct policy_rule *rule = &policy_in_force.rule[n];
		bool fits = (!rule->region || rule->region == tag) && (!rule->site || passes_through(n, pcs, count)) &&
		            (!rule->module || module_fits(rule->module, allocating_module(pcs, count)));
		rules |= (uint32_t)fits << n;
	}
	return rules;
}

uint32_t site_rules(uint32_t site)
{
	return site < SITES_MAX ? table.rules[site] : 0;
}

/* Slots that have counters for the site's group already read its rules there. */
static void rules_settle(uint32_t site, uint32_t rules)
{
	table.rules[site] = rules;
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t slot = 0; rules && slot < thread_slot_count(); slot++) {
		struct trace_counter *group = thread_of_slot(slot)->groups[site / TRACE_GROUP_SITES];
		if (group)
			__atomic_store_n(&group[site % TRACE_GROUP_SITES].rules, rules, __ATOMIC_RELAXED);
	}
}

/* ---- sites ------------------------------------------------------------------------------------------------------- */

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
		uint32_t owner = tag_of_module(allocating_module(pcs, count));
		site.tag_owner = owner != tag ? owner : 0;
	}
	if (!trace_append(&trace_sites, &site, &index))
		return 0;
	if (tag)
		*tagged_place(node, tag) = ((uint64_t)node << 8 | tag) << 24 | index;
	else
		table.site_of_node[node] = index;
	if (unlikely(policy_in_force.rule_count))
		rules_settle(index, rules_of(pcs, count, tag));
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
	uint32_t node = path_node(pcs, folded ? depth : count, cut || folded, may_add);
	if (node == UINT32_MAX)
		return 0;
	uint32_t site = site_known(node, tag);
	return site || !may_add ? site : site_add(node, folded, tag, pcs, count);
}

uint32_t site_intern(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag)
{
	if (!count || !base_lock(&table.lock)) {
		trace_loss(TRACE_LOSS_STACKS, 1);
		return 0;
	}
	if (cut)
		trace_loss(TRACE_LOSS_DEPTH, 1);
	count = without_interrupted(pcs, count);
	size_t depth = depth_kept();
	uint32_t site = site_at_depth(pcs, count, count, cut, depth >= count, tag);
	if (!site) {
		trace_loss(TRACE_LOSS_SITES, 1);
		for (; !site && depth; depth /= 2)
			site = site_at_depth(pcs, count, depth, cut, true, tag);
	}
	base_unlock(&table.lock);
	return site;
}

static uint32_t intern_node(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag)
{
	(void)tag;
	if (!count || !base_lock(&table.lock))
		return 0;
	uint32_t node = path_node(pcs, without_interrupted(pcs, count), cut, true);
	base_unlock(&table.lock);
	if (node != UINT32_MAX)
		return node;
	trace_loss(TRACE_LOSS_NODES, 1);
	return 0;
}

/* stacks=none: one site for each size class and role. */
uint32_t site_of_class(struct thread *thread, uint32_t class_index)
{
	size_t class_bytes = (size_t)1 << class_index;
	if (!base_lock(&table.lock))
		return 0;
	uint32_t *site = &table.class_site[class_index][thread->role][thread->tag];
	if (!*site) {
		struct trace_site record = {.class_bytes = (uint32_t)(class_bytes < UINT32_MAX ? class_bytes : UINT32_MAX),
		                            .role = thread->role,
		                            .tag = thread->tag};
		if (!trace_append(&trace_sites, &record, site))
			*site = 0;
		else if (unlikely(policy_in_force.rule_count))
			rules_settle(*site, rules_of(NULL, 0, thread->tag));
	}
	thread->class_site[class_index] = *site;
	base_unlock(&table.lock);
	return thread->class_site[class_index];
}

uint32_t site_of_caller(struct thread *thread, const uintptr_t *fp)
{
	uintptr_t caller = fp[1], key = caller ^ (uintptr_t)thread->tag << 56;
	uint32_t slot = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 56);
	if (likely(thread->caller_site[slot].caller == key))
		return thread->caller_site[slot].site;
	notice_module_of(caller);
	thread->caller_site[slot].site = site_intern(&caller, 1, false, thread->tag);
	thread->caller_site[slot].caller = key;
	return thread->caller_site[slot].site;
}

uint32_t site_node_of_call(struct thread *thread, const uintptr_t *fp)
{
	if (!fp || runtime.stacks == TRACE_STACKS_NONE)
		return 0;
	if (runtime.stacks == TRACE_STACKS_FULL)
		return path_value(thread->other_paths, fp, 0, intern_node);
	uintptr_t caller = fp[1];
	notice_module_of(caller);
	return intern_node(&caller, 1, false, 0);
}

void site_child(void)
{
	atomic_store(&table.lock.owner, 0);
	munmap(table.hash, TABLE_BYTES);
}
