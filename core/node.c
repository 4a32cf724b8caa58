/* The hash table from (parent, module, offset) to node is kept outside the recording. */
#define _GNU_SOURCE
#include "core/node.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/path/module.h"
#include "core/path/path.h"
#include "core/runtime.h"
#include "core/slot.h"
#include "core/trace/writer.h"

#define HASH_MAX (2 * NODE_MAX)
#define HASH_FIRST (1u << 12)
#define AHEAD 16u /* nodes of a path that are fetched before they are looked at */

static struct {
	struct base_lock lock;
	uint32_t *hash; /* node index + 1; twice as many places as nodes, so that a small tree touches few pages */
	uint32_t places; /* a power of 2, up to HASH_MAX */
} table;

/* Under the lock. The whole path that was asked for last, outermost first: the next one mostly begins like it. */
static struct {
	uint32_t changes; /* module_changes at that time: the same address may be other code now */
	size_t count;
	uintptr_t pc[PATH_DEPTH_MAX];
	uint32_t node[PATH_DEPTH_MAX];
	uint32_t hash[PATH_DEPTH_MAX]; /* node_hash of it */
} last;

int node_init(void)
{
	void *memory = base_map(HASH_MAX * sizeof *table.hash);
	if (!memory)
		return -ENOMEM;
	table.hash = memory;
	table.places = HASH_FIRST;
	last.count = 0;
	trace_append(&trace_nodes, NULL, &(uint32_t){0}); /* node 0: the root */
	return 0;
}

void node_child(void)
{
	munmap(table.hash, HASH_MAX * sizeof *table.hash);
}

bool node_lock(void)
{
	return base_lock(&table.lock);
}

void node_unlock(void)
{
	base_unlock(&table.lock);
}

void node_modules_sync(void)
{
	size_t count = path_modules_count();
	while (trace_count(&trace_modules) < count) {
		const struct path_module *module = path_module_at(trace_count(&trace_modules));
		struct trace_module record = {.base = module->base, .start = module->start, .end = module->end};
		record.build_id_bytes =
			(uint32_t)(module->build_id_bytes < sizeof record.build_id ? module->build_id_bytes
										   : sizeof record.build_id);
		for (uint32_t i = 0; i < record.build_id_bytes; i++)
			record.build_id[i] = module->build_id[i];
		base_text_copy(record.path, sizeof record.path, module->path ? module->path : "");
		if (!trace_append(&trace_modules, &record, NULL))
			break;
	}
	size_t recorded = trace_count(&trace_modules), missing = count > recorded ? count - recorded : 0;
	if (trace_header)
		trace_raise(&trace_header->losses[TRACE_LOSS_MODULES], path_modules_beyond() + missing);
	for (uint32_t i = 0; i < trace_count(&trace_modules); i++) {
		struct trace_module *record = trace_at(&trace_modules, i);
		if (!path_module_at(i)->unloaded)
			record->unloaded_ns = 0;
		else if (!record->unloaded_ns)
			record->unloaded_ns = base_now_ns();
	}
}

void node_notice_module(uintptr_t address)
{
	if (path_module_of(address) == UINT32_MAX)
		path_modules_refresh();
}

uint32_t node_module_of(uintptr_t address)
{
	uint32_t module = path_module_of(address);
	if (module != UINT32_MAX && module >= trace_count(&trace_modules))
		node_modules_sync();
	return module < trace_count(&trace_modules) ? module : TRACE_NO_MODULE;
}

/* A node without its parent. `module`: of its pc. */
static struct trace_node node_record(uintptr_t pc, uint32_t module, bool cut)
{
	uintptr_t base = module != TRACE_NO_MODULE ? path_module_at(module)->base : 0;
	return (struct trace_node){.module = module,
				   .offset = TRACE_NODE_OFFSET(pc - base) | (cut ? TRACE_NODE_CUT : 0)};
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
	uint32_t mask = table.places - 1, at = hash & mask;
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
	uint32_t *hash = base_map(bytes);
	if (!hash)
		return;
	base_fill(hash, bytes);
	memset(table.hash, 0, table.places * sizeof table.hash[0]);
	table.places = table.places * 4 < HASH_MAX ? table.places * 4 : HASH_MAX;
	base_fill(table.hash, table.places * sizeof table.hash[0]);
	for (uint32_t i = 1; i < count; i++) {
		const struct trace_node *node = trace_at(&trace_nodes, i);
		hash[i] = node_hash(hash[node->parent], node); /* parents come before */
		uint32_t at = hash[i];
		while (table.hash[at &= table.places - 1])
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
	bool is_full = trace_count(&trace_nodes) >= table.places / 4 * 3;
	if (!may_add || is_full || !trace_append_alone(&trace_nodes, node, &index))
		return UINT32_MAX;
	*place = index + 1;
	if (unlikely(index * 2 >= table.places) && table.places < HASH_MAX)
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

/* Mostly the frame before was in the same module. */
static bool is_within(const struct path_module *module, uintptr_t pc)
{
	return module && pc >= module->start && pc < module->end && !module->unloaded;
}

size_t node_path_part(const uintptr_t *pcs, size_t count)
{
	static const uint8_t trampoline[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; /* mov $15, %rax; syscall */
	size_t new = count - common_with_last(pcs, count);
	const struct path_module *module = NULL;
	for (size_t i = 1; i < new; i++) {
		if (!is_within(module, pcs[i]))
			module = path_module_at(path_module_of(pcs[i]));
		const uint8_t *code = (const uint8_t *)pcs[i];
		if (module && code[0] == trampoline[0] && pcs[i] + sizeof trampoline <= module->end &&
		    !memcmp(code, trampoline, sizeof trampoline))
			return i + 1;
	}
	return count;
}

/* Nodes that are looked for together: in a big tree, which is in no cache, what one misses overlaps with what the next do. */
struct ahead {
	struct trace_node node;
	uint32_t hash;
	bool skipped; /* it is none: its hash is its parent's */
};

/* The nodes of `count` pcs from `outermost` inwards, but for their parents, whose hash is `hash`. `cut`: of the first one. */
static void look_ahead(struct ahead *ahead, size_t count, const uintptr_t *outermost, bool cut, uint32_t hash)
{
	uint32_t mask = table.places - 1, module = TRACE_NO_MODULE;
	const struct path_module *within = NULL;
	for (size_t i = 0; i < count; i++) {
		uintptr_t pc = outermost[-(ptrdiff_t)i];
		ahead[i].skipped = is_own(pc);
		if (!ahead[i].skipped) {
			if (!is_within(within, pc)) {
				module = node_module_of(pc);
				within = path_module_at(module);
			}
			ahead[i].node = node_record(pc, module, cut && !i);
			hash = node_hash(hash, &ahead[i].node);
			__builtin_prefetch(&table.hash[hash & mask]);
		}
		ahead[i].hash = hash;
	}
	for (size_t i = 0; i < count; i++) {
		uint32_t place = ahead[i].skipped ? 0 : table.hash[ahead[i].hash & mask];
		if (place)
			__builtin_prefetch(trace_at(&trace_nodes, place - 1));
	}
}

uint32_t node_of_path(const uintptr_t *pcs, size_t count, bool cut, bool may_add)
{
	struct ahead ahead[AHEAD];
	size_t known = cut ? 0 : common_with_last(pcs, count);
	uint32_t node = known ? last.node[known - 1] : 0, hash = known ? last.hash[known - 1] : 0;
	for (size_t left = count - known, batch; left && node != UINT32_MAX; left -= batch) {
		batch = left < AHEAD ? left : AHEAD;
		look_ahead(ahead, batch, &pcs[left - 1], cut && left == count, hash);
		for (size_t i = 0; i < batch && node != UINT32_MAX; i++) {
			hash = ahead[i].hash;
			if (!ahead[i].skipped) {
				ahead[i].node.parent = node;
				node = node_intern(&ahead[i].node, hash, may_add);
			}
			if (node == UINT32_MAX || cut)
				continue;
			last.pc[known] = pcs[left - 1 - i];
			last.hash[known] = hash;
			last.node[known++] = node;
		}
	}
	if (!cut) {
		last.count = known;
		last.changes = atomic_load_explicit(&module_changes, memory_order_relaxed);
	}
	return node;
}

uint32_t node_of_function(uintptr_t address)
{
	node_notice_module(address);
	struct trace_node node = node_record(address, node_module_of(address), false);
	node.offset |= TRACE_NODE_EXACT;
	uint32_t index = UINT32_MAX;
	if (node_lock()) {
		index = node_intern(&node, node_hash(0, &node), true);
		node_unlock();
	}
	return index == UINT32_MAX ? 0 : index;
}

static uint32_t intern_node(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)tag;
	if (!count || !node_lock()) {
		*kept = 0;
		return 0;
	}
	uint32_t node = node_of_path(pcs, node_path_part(pcs, count), cut, true);
	node_unlock();
	if (node != UINT32_MAX)
		return node;
	bool hurries = base_hurries(); /* there may be room, and somebody else at it */
	trace_loss(hurries ? TRACE_LOSS_STACKS : TRACE_LOSS_NODES, 1);
	*kept = hurries ? 0 : *kept;
	return 0;
}

/* There is no cache yet, or there are callers only. */
static cold_path uint32_t node_of_call_slow(struct thread *thread, const uintptr_t *fp)
{
	if (runtime.stacks == TRACE_STACKS_FULL) {
		if (slot_make_other_paths(thread))
			return path_value(thread->other_paths, fp, 0, intern_node);
		trace_loss(TRACE_LOSS_STACKS, 1);
	}
	uintptr_t caller = fp[1];
	node_notice_module(caller);
	size_t kept = 1;
	return intern_node(NULL, &caller, 1, false, 0, &kept);
}

uint32_t node_of_call(struct thread *thread, const uintptr_t *fp)
{
	if (!fp || runtime.stacks == TRACE_STACKS_NONE)
		return 0;
	if (likely(thread->other_paths != NULL))
		return path_value(thread->other_paths, fp, 0, intern_node);
	return node_of_call_slow(thread, fp);
}
