/* The call tree is a hash table from (parent, module, offset) to node, kept outside the recording; sites hang on nodes.
   One lock guards both: only a path that was never seen by the asking thread takes it. */
#define _GNU_SOURCE
#include "core/site.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/path/module.h"
#include "core/path/path.h"
#include "core/path/tree.h"
#include "core/policy.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/tag.h"
#include "core/tier/pool.h"
#include "core/trace/writer.h"

static_assert(POLICY_REGIONS_MAX <= TREE_ANY_DEPTH, "a region is the tag of a path");

#define NODES_MAX (1u << 18)
#define NODE_HASH (1u << 19) /* at most */
#define NODE_HASH_FIRST (1u << 12)
#define TAGGED_HASH (1u << 16)
#define TABLE_BYTES ((NODE_HASH + NODES_MAX) * sizeof(uint32_t) + TAGGED_HASH * sizeof(uint64_t))
#define AHEAD 16u /* nodes of a path that are fetched before they are looked at */

static struct {
	struct base_lock lock;
	uint32_t *hash;         /* node index + 1; twice as many places as nodes, so that a small tree touches few pages */
	uint32_t hash_places;   /* a power of 2 */
	uint32_t *site_of_node; /* site, 0 = none */
	uint64_t *tagged_site;  /* in regions: node << 32 | tag << 24 | site, open addressing */
} table;

/* Under the lock. Whether a whole path may have a site: one bit for each that was added, by the hash of its pcs. Where code is
   unloaded they stay, and others of the same addresses are asked in vain. */
#define WHOLE_BITS (1u << 19)
static uint64_t whole[WHOLE_BITS / 64];
static bool whole_used;

static uint32_t class_sites[TRACE_ROLE_IO + 1][POLICY_REGIONS_MAX][SITE_CLASSES];
static bool classes_used;

/* Under the lock. The whole path that was asked for last, outermost first: the next one mostly begins like it. */
static struct {
	uint32_t changes; /* module_changes at that time: the same address may be other code now */
	size_t count;
	uintptr_t pc[PATH_DEPTH_MAX];
	uint32_t node[PATH_DEPTH_MAX];
	uint32_t hash[PATH_DEPTH_MAX]; /* node_hash of it */
} last;

int site_init(void)
{
	size_t bytes = TABLE_BYTES;
	uint32_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	table.hash = memory;
	table.hash_places = NODE_HASH_FIRST;
	table.site_of_node = memory + NODE_HASH;
	table.tagged_site = (uint64_t *)(memory + NODE_HASH + NODES_MAX);
	if (classes_used) /* in the child of a fork */
		memset(class_sites, 0, sizeof class_sites);
	classes_used = false;
	rule_forget_sites();
	last.count = 0;
	if (whole_used)
		memset(whole, 0, sizeof whole);
	whole_used = false;
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

/* A node without its parent. */
static struct trace_node node_record(uintptr_t pc, bool cut)
{
	struct trace_node node = {.module = site_module_of(pc), .offset = pc};
	if (node.module != TRACE_NO_MODULE)
		node.offset = pc - ((struct trace_module *)trace_at(&trace_modules, node.module))->base;
	node.offset = TRACE_NODE_OFFSET(node.offset) | (cut ? TRACE_NODE_CUT : 0);
	return node;
}

/* By the hash of its parent, not by the parent: those of a whole path are known before one of its nodes is. */
static uint32_t node_hash(uint32_t parent_hash, const struct trace_node *node)
{
	uint64_t h = (node->offset ^ (uint64_t)node->module << 40) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 29 ^ parent_hash) * 0xbf58476d1ce4e5b9u;
	return (uint32_t)(h ^ h >> 32);
}

/* Lock held. The place of `node`, or the empty one where it belongs. */
static uint32_t *node_place(const struct trace_node *node, uint32_t hash)
{
	uint32_t mask = table.hash_places - 1, at = hash & mask;
	for (; table.hash[at]; at = (at + 1) & mask) {
		const struct trace_node *known = trace_at(&trace_nodes, table.hash[at] - 1);
		if (known->parent == node->parent && known->offset == node->offset && known->module == node->module)
			break;
	}
	return &table.hash[at];
}

/* Lock held. Cost: each node is placed anew, a third of a time in all. Without memory for their hashes it stays as it is. */
static void hash_grow(void)
{
	uint32_t count = trace_count(&trace_nodes);
	size_t bytes = count * sizeof(uint32_t);
	uint32_t *hash = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hash == MAP_FAILED)
		return;
	memset(table.hash, 0, table.hash_places * sizeof table.hash[0]);
	table.hash_places = table.hash_places * 4 < NODE_HASH ? table.hash_places * 4 : NODE_HASH;
	for (uint32_t i = 1; i < count; i++) {
		const struct trace_node *node = trace_at(&trace_nodes, i);
		hash[i] = node_hash(hash[node->parent], node); /* parents come before */
		uint32_t at = hash[i];
		while (table.hash[at &= table.hash_places - 1])
			at++;
		table.hash[at] = i + 1;
	}
	munmap(hash, bytes);
}

/* Lock held. The node for `node`'s contents; UINT32_MAX when it is new and the tree is full or must not grow. */
static uint32_t node_intern(const struct trace_node *node, uint32_t hash, bool may_add)
{
	uint32_t *place = node_place(node, hash), index;
	if (*place)
		return *place - 1;
	/* Where the table could not grow it takes no more than leaves it some empty places. */
	bool is_full = trace_count(&trace_nodes) >= table.hash_places / 4 * 3;
	if (!may_add || is_full || !trace_append_alone(&trace_nodes, node, &index))
		return UINT32_MAX;
	*place = index + 1;
	if (unlikely(index * 2 >= table.hash_places) && table.hash_places < NODE_HASH)
		hash_grow();
	return index;
}

/* Frames of ours on the path: those that wait for a marked function to return. */
static bool is_own(uintptr_t pc)
{
	extern const char own_start[] __asm__("__ehdr_start"), own_end[] __asm__("_end");
	return pc >= (uintptr_t)own_start && pc < (uintptr_t)own_end;
}

/* How many of the outermost pcs are those of the last path. */
static size_t common_with_last(const uintptr_t *pcs, size_t count)
{
	size_t common = 0;
	if (last.changes != atomic_load_explicit(&module_changes, memory_order_relaxed))
		last.count = 0;
	while (common < count && common < last.count && pcs[count - 1 - common] == last.pc[common])
		common++;
	return common;
}

/* A signal handler's path ends at the trampoline that the kernel returns through: where the interrupted code stood is
   no reason for an allocation, and would make every interrupted instruction a path of its own. */
static size_t without_interrupted(const uintptr_t *pcs, size_t count)
{
	static const uint8_t trampoline[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; /* mov $15, %rax; syscall */
	size_t new = count - common_with_last(pcs, count);
	const struct path_module *module = NULL;
	for (size_t i = 1; i < new; i++) {
		if (!module || pcs[i] < module->start || pcs[i] + sizeof trampoline > module->end) {
			uint32_t index = path_module_of(pcs[i]);
			module = index != UINT32_MAX ? path_module_at(index) : NULL;
		}
		const uint8_t *code = (const uint8_t *)pcs[i];
		if (module && code[0] == trampoline[0] && !memcmp(code, trampoline, sizeof trampoline))
			return i + 1;
	}
	return count;
}

/* Lock held. The node of the `count` innermost pcs. Cost: where a big tree is not in cache, what a node misses overlaps with
   what the next ones do. */
static uint32_t path_node(const uintptr_t *pcs, size_t count, bool cut, bool may_add)
{
	struct {
		struct trace_node node;
		uint32_t hash;
		bool skipped;
	} ahead[AHEAD];
	size_t known = cut ? 0 : common_with_last(pcs, count);
	uint32_t parent = known ? last.node[known - 1] : 0, hash = known ? last.hash[known - 1] : 0;
	for (size_t left = count - known; left && parent != UINT32_MAX;) {
		size_t batch = left < AHEAD ? left : AHEAD;
		uint32_t mask = table.hash_places - 1;
		for (size_t i = 0; i < batch; i++) {
			size_t from = left - 1 - i;
			ahead[i].skipped = is_own(pcs[from]);
			if (!ahead[i].skipped) {
				ahead[i].node = node_record(pcs[from], cut && from == count - 1);
				hash = node_hash(hash, &ahead[i].node);
				__builtin_prefetch(&table.hash[hash & mask]);
			}
			ahead[i].hash = hash;
		}
		for (size_t i = 0; i < batch; i++) {
			uint32_t place = ahead[i].skipped ? 0 : table.hash[ahead[i].hash & mask];
			if (place)
				__builtin_prefetch(trace_at(&trace_nodes, place - 1));
		}
		for (size_t i = 0; i < batch && parent != UINT32_MAX; i++) {
			if (!ahead[i].skipped) {
				ahead[i].node.parent = parent;
				parent = node_intern(&ahead[i].node, ahead[i].hash, may_add);
			}
			if (parent == UINT32_MAX || cut)
				continue;
			last.pc[known] = pcs[left - 1 - i];
			last.hash[known] = ahead[i].hash;
			last.node[known++] = parent;
		}
		left -= batch;
	}
	if (!cut) {
		last.count = known;
		last.changes = atomic_load_explicit(&module_changes, memory_order_relaxed);
	}
	return parent;
}

uint32_t site_node_of_function(uintptr_t address)
{
	notice_module_of(address);
	struct trace_node node = node_record(address, false);
	node.offset |= TRACE_NODE_EXACT;
	uint32_t index = UINT32_MAX;
	if (base_lock(&table.lock)) {
		index = node_intern(&node, node_hash(0, &node), true);
		base_unlock(&table.lock);
	}
	return index == UINT32_MAX ? 0 : index;
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

static uint32_t whole_bit(const uintptr_t *pcs, size_t count)
{
	uint64_t h = 0;
	for (size_t i = 0; i < count; i++)
		h = (h ^ pcs[i]) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 40) & (WHOLE_BITS - 1);
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
	if (!folded) {
		uint32_t bit = whole_bit(pcs, count);
		whole[bit / 64] |= 1ull << bit % 64;
		whole_used = true;
	}
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
	uint32_t node = path_node(pcs, folded ? depth : count, cut || folded, may_add);
	if (node == UINT32_MAX)
		return 0;
	uint32_t site = site_known(node, tag);
	return site || !may_add ? site : site_add(node, folded, tag, pcs, count);
}

uint32_t site_intern(const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	if (!count || !base_lock(&table.lock)) {
		trace_loss(TRACE_LOSS_STACKS, 1);
		*kept = 0;
		return 0;
	}
	if (cut)
		trace_loss(TRACE_LOSS_DEPTH, 1);
	static uint32_t asked;
	if (!(++asked & 1023)) /* a program without frames that is killed has its figures in the recording too */
		thread_note_path_stats();
	count = without_interrupted(pcs, count);
	size_t depth = depth_kept();
	uint32_t bit = depth < count ? whole_bit(pcs, count) : 0, site = 0;
	if (depth >= count || whole[bit / 64] >> bit % 64 & 1)
		site = site_at_depth(pcs, count, count, cut, depth >= count, tag);
	if (!site && base_hurries() && depth >= count) { /* there is room, and somebody else at it */
		trace_loss(TRACE_LOSS_STACKS, 1);
	} else if (!site) {
		trace_loss(TRACE_LOSS_SITES, 1);
		for (; !site && depth; depth /= 2) {
			site = site_at_depth(pcs, count, depth, cut, true, tag);
			*kept = depth < count ? depth : *kept;
		}
	}
	if (!site && base_hurries())
		*kept = 0;
	base_unlock(&table.lock);
	return site;
}

uint32_t site_intern_counter(void *thread, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	uint32_t site = site_intern(pcs, count, cut, tag, kept);
	const struct trace_counter *counter = thread_counter(thread, site);
	if (unlikely(counter->site != site)) /* there is no room, or somebody has the lock */
		*kept = 0;
	return counter_place(counter);
}

static uint32_t intern_node(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)tag;
	if (!count || !base_lock(&table.lock)) {
		*kept = 0;
		return 0;
	}
	uint32_t node = path_node(pcs, without_interrupted(pcs, count), cut, true);
	base_unlock(&table.lock);
	if (node != UINT32_MAX)
		return node;
	bool hurries = base_hurries(); /* there may be room, and somebody else at it */
	trace_loss(hurries ? TRACE_LOSS_STACKS : TRACE_LOSS_NODES, 1);
	*kept = hurries ? 0 : *kept;
	return 0;
}

/* stacks=none: one site for each size class and role. */
struct trace_counter *site_of_class(struct thread *thread, size_t size)
{
	uint32_t class_index = site_class(size);
	size_t class_bytes = (size_t)1 << class_index;
	if (!base_lock(&table.lock))
		return thread_counter(thread, 0);
	uint32_t *site = &class_sites[thread->role][thread->tag][class_index], made = *site;
	classes_used = true;
	if (!made) {
		struct trace_site record = {.class_bytes = (uint32_t)(class_bytes < UINT32_MAX ? class_bytes : UINT32_MAX),
		                            .role = thread->role,
		                            .tag = thread->tag};
		if (!trace_append_alone(&trace_sites, &record, &made))
			made = 0;
		else if (unlikely(policy_in_force.rule_count))
			rule_settle(made, thread->tag, NULL, 0);
		*site = made;
	}
	base_unlock(&table.lock);
	struct trace_counter *counter = thread_counter(thread, made);
	if (made && thread->groups[made / TRACE_GROUP_SITES]) {
		struct thread_class *known = &thread->class_table[thread->classes - thread->class_table + site_place(size)];
		*known = (struct thread_class){counter, counter_place(counter), pool_class(block_usable(size))};
	}
	return counter;
}

struct trace_counter *site_of_caller(struct thread *thread, const uintptr_t *fp)
{
	uintptr_t caller = fp[1], key = caller ^ (uintptr_t)thread->tag << 56;
	uint32_t slot = (uint32_t)(key * 0x9e3779b97f4a7c15u >> 56);
	if (likely(thread->caller_site[slot].caller == key))
		return counter_at(thread->caller_site[slot].place);
	size_t kept = 1;
	notice_module_of(caller);
	uint32_t place = site_intern_counter(thread, &caller, 1, false, thread->tag, &kept);
	if (kept) {
		thread->caller_site[slot].place = place;
		thread->caller_site[slot].caller = key;
	}
	return counter_at(place);
}

uint32_t site_node_of_call(struct thread *thread, const uintptr_t *fp)
{
	if (!fp || runtime.stacks == TRACE_STACKS_NONE)
		return 0;
	if (runtime.stacks == TRACE_STACKS_FULL)
		return path_value(thread->other_paths, fp, 0, intern_node);
	uintptr_t caller = fp[1];
	notice_module_of(caller);
	size_t kept;
	return intern_node(NULL, &caller, 1, false, 0, &kept);
}

void site_child(void)
{
	munmap(table.hash, TABLE_BYTES);
}
