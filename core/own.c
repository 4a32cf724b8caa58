/* Owners' lists are attachments (attach.h); a frame's blocks, which are many and short-lived, stand in an array of the
   thread: an entry counts as long as the block's header is the one that was noted. */
#define _GNU_SOURCE
#include "core/own.h"

#include <string.h>
#include <sys/mman.h>

#include "core/alloc.h"
#include "core/counter.h"
#include "core/node.h"
#include "core/operation.h"
#include "core/segment.h"
#include "core/slot.h"
#include "core/trace/writer.h"
#include "core/violation.h"

struct own_frame_block {
	struct block *block;
	uint64_t birth;
};

struct own_stats own_frame_stats, own_other_stats;

bool own_add(struct attach_owner *owner, void *pointer)
{
	return attach_add((uintptr_t)pointer, ATTACH_OWNED, owner, 0);
}

bool own_hand_out(struct attach_owner *owner, void *pointer)
{
	return attach_take_from((uintptr_t)pointer, owner);
}

static struct own_stats *stats_of(const struct block *block)
{
	return own_is_frame_memory(block) ? &own_frame_stats : &own_other_stats;
}

void own_count_alloc(const struct block *block)
{
	struct own_stats *stats = stats_of(block);
	atomic_fetch_add(&stats->allocs, 1);
	atomic_fetch_add(&stats->bytes, block_size(block));
}

void own_uncount_alloc(const struct block *block)
{
	struct own_stats *stats = stats_of(block);
	atomic_fetch_sub(&stats->allocs, 1);
	atomic_fetch_sub(&stats->bytes, block_size(block));
}

void own_count_free(const struct block *block)
{
	struct own_stats *stats = stats_of(block);
	atomic_fetch_add(&stats->frees, 1);
	atomic_fetch_add(&stats->freed_bytes, block_size(block));
}

void own_release(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	own_count_free(block);
	if (!thread) {
		alloc_end_attached(NULL, block, NULL);
		alloc_free(block + 1, fp);
		return;
	}
	if (block_tag(block) & BLOCK_SPECIAL)
		alloc_end_attached(thread, block, fp);
	operation_die(thread, block, fp);
	operation_give_room(thread, block, false);
}

void own_end(struct thread *thread, struct attach_owner *owner, const uintptr_t *fp)
{
	/* The same one twice: it cannot be taken off. */
	for (uintptr_t address, before = 0; (address = attach_newest(owner)) && address != before; before = address)
		if (attach_take_from(address, owner) && block_is_live(block_of((void *)address)))
			own_release(thread, block_of((void *)address), fp);
}

static bool make_room(struct thread *thread)
{
	uint32_t room = thread->frame_block_room ? thread->frame_block_room * 2 : 4096;
	size_t bytes = room * sizeof *thread->frame_blocks;
	void *memory = base_map(bytes);
	if (!memory)
		return false;
	if (thread->frame_blocks) {
		memcpy(memory, thread->frame_blocks, thread->frame_block_count * sizeof *thread->frame_blocks);
		munmap(thread->frame_blocks, thread->frame_block_room * sizeof *thread->frame_blocks);
	}
	thread->frame_blocks = memory;
	thread->frame_block_room = room;
	return true;
}

bool own_add_to_frame(struct thread *thread, void *pointer)
{
	if (unlikely(thread->frame_block_count == thread->frame_block_room) && !make_room(thread))
		return false;
	struct block *block = block_of(pointer);
	block_mark(block, BLOCK_SPECIAL);
	thread->frame_blocks[thread->frame_block_count++] = (struct own_frame_block){block, block->birth};
	return true;
}

bool own_add_to_frame_of(struct thread *thread, const struct block *old, void *pointer)
{
	struct segment_record segment;
	uint64_t id = block_segment(old);
	bool known = !segment_is_inherited(id) && segment_resolve(id, &segment);
	uint32_t born = known ? segment_thread(&segment) : thread->record_index;
	if (born == thread->record_index)
		return own_add_to_frame(thread, pointer);
	const struct trace_thread *record = trace_at(&trace_threads, born);
	struct thread *owner = slot_at(record->slot);
	if (!owner || owner->record != record)
		return true;
	if (!own_add(&owner->frame_owned, pointer))
		return false;
	if (__atomic_load_n(&owner->record, __ATOMIC_SEQ_CST) != record) /* it has ended, and another has its slot */
		own_hand_out(&owner->frame_owned, pointer);
	return true;
}

void own_forget_frame(struct thread *thread)
{
	thread->frame_block_count = 0;
	struct attach_owner *owner = &thread->frame_owned;
	for (uintptr_t address, before = 0; (address = attach_newest(owner)) && address != before; before = address)
		attach_take_from(address, owner);
}

void own_end_frame(struct thread *thread, const uintptr_t *fp)
{
	if (unlikely(thread->frame_owned.newest))
		own_end(thread, &thread->frame_owned, fp);
	uint32_t wanted = BLOCK_ASKED | BLOCK_SPECIAL;
	while (thread->frame_block_count) {
		struct own_frame_block *noted = &thread->frame_blocks[--thread->frame_block_count];
		struct block *block = noted->block;
		if (operation_has_header(block + 1) && block_is_live(block) && block->birth == noted->birth &&
		    (block_tag(block) & wanted) == wanted)
			own_release(thread, block, fp);
	}
}

/* A mistake with a block on the calling thread, now. */
static void mistake(struct thread *thread, uint32_t code, const struct block *block, const uintptr_t *fp)
{
	struct violation v = {.code = code,
			      .level = TRACE_LEVEL_ERROR,
			      .site = block ? block_site_doubted(block) : 0,
			      .other = fp ? node_of_call(thread, fp) : 0,
			      .count = 1,
			      .bytes = block ? block_size(block) : 0,
			      .frame = thread->frame,
			      .occurrence = {.size_bytes = block ? block_size(block) : 0,
					     .born_thread = UINT32_MAX,
					     .died_thread = thread->record_index,
					     .died_frame = thread->frame}};
	v.occurrence.died_node = v.other;
	violation_record(thread, &v);
}

void own_misused(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	mistake(thread, 705, block, fp);
}

void own_escaped(struct thread *thread, const struct block *block, const uintptr_t *fp)
{
	mistake(thread, 601, block, fp);
}

void own_freed_by_hand(struct thread *thread, const struct block *block, const struct attach_owner *owner,
		       const uintptr_t *fp)
{
	if (owner->is_guard)
		own_misused(thread, block, fp);
}
