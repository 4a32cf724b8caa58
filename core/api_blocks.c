/* Blocks by the program's word: from the tier it names, with the owner it implies. */
#define _GNU_SOURCE
#include <string.h>

#include "core/api_place.h"

_Atomic uint64_t api_misuses, api_frames_begun;

void *api_make(struct thread *thread, enum trace_tier tier, size_t size, const uintptr_t *fp)
{
	void *pointer = thread ? alloc_asked(thread, tier, size, fp) : alloc_new(size, 0, false, fp);
	if (pointer)
		own_count_alloc(block_of(pointer));
	else
		errno = ENOMEM;
	return pointer;
}

void *api_owned(struct thread *thread, struct attach_owner *owner, void *pointer)
{
	if (!pointer || own_add(owner, pointer))
		return pointer;
	own_release(thread, block_of(pointer), NULL);
	errno = ENOMEM;
	return NULL;
}

/* What was asked for as frame memory and came from elsewhere stays what it was called. */
static void make_frame_memory(struct block *block)
{
	own_uncount_alloc(block);
	block_unmark(block, BLOCK_HANDED);
	block_mark(block, BLOCK_ASKED);
	own_count_alloc(block);
}

void api_handed_on(struct thread *thread, void *pointer, struct task *owner)
{
	struct attachment attached;
	struct segment_record segment;
	struct block *block = block_of(pointer);
	if (!thread || (block_tag(block) & BLOCK_SCOPE) != BLOCK_IN_TASK || segment_is_inherited(block_segment(block)))
		return;
	if (segment_resolve(block_segment(block), &segment) && segment.thread & SEGMENT_OF_TASK)
		owner = task_of_id(segment.frame);
	if (owner && !attach_find((uintptr_t)pointer, ATTACH_HANDED, &attached) &&
	    attach_add((uintptr_t)pointer, ATTACH_HANDED, owner, owner->id))
		task_hand_on(thread, owner, block);
}

void api_leave_frame(struct block *block)
{
	if (!own_is_frame_memory(block))
		return;
	own_count_free(block);
	/* Without BLOCK_SPECIAL its frame passes it over. */
	if (!block_is_untracked(block))
		block_unmark(block, BLOCK_SPECIAL);
	alloc_hand_over(block + 1);
	own_count_alloc(block);
}

/* Frame memory where nothing is recorded. */
static void *make_bare(size_t size, const uintptr_t *fp)
{
	bool in_frame = api_bare.frames && !api_bare.paused_by;
	struct attach_owner *owner = api_bare.task ? &api_bare.task->owned : in_frame ? &api_bare.frame : NULL;
	void *pointer = api_make(NULL, TRACE_TIER_HEAP, size, fp);
	if (!pointer)
		return NULL;
	make_frame_memory(block_of(pointer));
	if (api_bare.task || api_bare.role == TRACE_ROLE_ASYNC || !in_frame)
		atomic_fetch_add(&api_misuses, 1);
	return owner ? api_owned(NULL, owner, pointer) : pointer;
}

/* Frame memory is the frame's, where it is what it was asked for; in a task it is the task's. */
static void *make_frame(struct thread *thread, size_t size, const uintptr_t *fp)
{
	void *pointer = thread ? api_make(thread, TRACE_TIER_FRAME, size, fp) : make_bare(size, fp);
	if (!pointer || !thread)
		return pointer;
	if (thread->task || thread->role == TRACE_ROLE_ASYNC || !thread->in_frame)
		atomic_fetch_add(&api_misuses, 1);
	if (thread->task)
		return api_owned(thread, &thread->task->owned, pointer);
	if (thread->in_frame && !own_add_to_frame(thread, pointer)) {
		own_release(thread, block_of(pointer), NULL);
		errno = ENOMEM;
		return NULL;
	}
	return pointer;
}

/* A fresh block (or NULL), to the innermost guard that is open here. */
static void *owned_by_guard(struct thread *thread, void *pointer)
{
	struct guard **list = api_open_guards(thread);
	if (!*list)
		return pointer;
	bool locked = base_lock(&api_guards_lock);
	if (*list)
		pointer = api_owned(thread, &(*list)->owner, pointer);
	if (locked)
		base_unlock(&api_guards_lock);
	return pointer;
}

void *api_alloc(enum trace_tier tier, size_t size, const uintptr_t *fp)
{
	struct place place = api_enter();
	struct thread *thread = place.thread;
	void *pointer;
	if (tier == TRACE_TIER_FRAME) {
		pointer = make_frame(thread, size, fp);
	} else {
		pointer = api_make(thread, tier == TRACE_TIER_POOL ? tier : TRACE_TIER_HEAP, size, fp);
		if (tier == TRACE_TIER_POOL)
			pointer = owned_by_guard(thread, pointer);
	}
	api_leave(place);
	return pointer;
}

/* Frame memory that was released with its frame already: FA601, and nothing else happens. */
static bool ended_with_frame(struct thread *thread, void *pointer, const uintptr_t *fp)
{
	if (!operation_has_header(pointer) || !block_is_dead(block_of(pointer)))
		return false;
	const struct block *block = block_of(pointer);
	uint32_t wanted = BLOCK_ASKED | BLOCK_SPECIAL | BLOCK_IN_SCOPE;
	if ((block_tag(block) & (wanted | BLOCK_HANDED | BLOCK_UNCOUNTED)) != wanted)
		return false;
	if (thread)
		own_escaped(thread, block, fp);
	return true;
}

void api_free(void *pointer, const uintptr_t *fp)
{
	if (!pointer)
		return;
	struct place place = api_enter();
	bool told = ended_with_frame(place.thread, pointer, fp), live = api_is_live(pointer);
	struct attachment attached;
	if (live) {
		if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached) &&
		    ((struct attach_owner *)attached.object)->is_guard)
			atomic_fetch_add(&api_misuses, 1);
		own_count_free(block_of(pointer));
		if (!place.thread) /* else alloc_free does it */
			alloc_end_attached(NULL, block_of(pointer), NULL);
	}
	api_leave(place);
	if (!told && region_holds(pointer))
		alloc_free(pointer, fp);
}

/* Another block for one that is resized: of the same kind and tier, still without its owner. */
static void *remake(struct thread *thread, struct block *block, size_t size, const uintptr_t *fp)
{
	bool frame_memory = own_is_frame_memory(block);
	bool in_frame = frame_memory && thread && thread->in_frame && !thread->task && block_tag(block) & BLOCK_SPECIAL;
	enum trace_tier tier = in_frame                                ? TRACE_TIER_FRAME
			       : api_tier_of(block) == TRACE_TIER_HEAP ? TRACE_TIER_HEAP
								       : TRACE_TIER_POOL;
	void *pointer = api_make(thread, tier, size, fp);
	if (pointer && frame_memory && !in_frame)
		make_frame_memory(block_of(pointer));
	return pointer;
}

/* Gives it the owner of the old one: `attached`, or a frame, or none. */
static void *inherit(struct thread *thread, struct block *block, const struct attachment *owner, void *pointer)
{
	struct attachment handed;
	bool is_handed = attach_find((uintptr_t)(block + 1), ATTACH_HANDED, &handed);
	bool of_frame = thread && !owner && own_is_frame_memory(block) && block_tag(block) & BLOCK_SPECIAL;
	if (owner) {
		pointer = api_owned(thread, owner->object, pointer);
	} else if (of_frame && !own_add_to_frame_of(thread, block, pointer)) {
		own_release(thread, block_of(pointer), NULL);
		errno = ENOMEM;
		return NULL;
	}
	bool of_other = owner && !(thread && thread->task && owner->object == &thread->task->owned);
	if (pointer && (is_handed || of_frame || of_other))
		api_handed_on(thread, pointer, NULL);
	return pointer;
}

void *api_realloc(void *pointer, size_t size, const uintptr_t *fp)
{
	if (!pointer)
		return api_alloc(TRACE_TIER_HEAP, size, fp);
	if (!api_is_live(pointer)) {
		api_free(pointer, fp);
		errno = EINVAL;
		return NULL;
	}
	struct place place = api_enter();
	struct thread *thread = place.thread;
	struct block *block = block_of(pointer);
	struct attachment attached = {0};
	bool is_owned = attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached);
	void *moved = remake(thread, block, size, fp);
	if (moved)
		moved = inherit(thread, block, is_owned ? &attached : NULL, moved);
	if (moved) {
		size_t kept = block_size(block) < size ? block_size(block) : size;
		memcpy(moved, pointer, kept);
		if (is_owned)
			own_hand_out(attached.object, pointer);
		own_release(thread, block, fp);
	}
	api_leave(place);
	return moved;
}

int api_transfer(void *pointer)
{
	struct attachment attached;
	if (!pointer || !api_is_live(pointer))
		return -EINVAL;
	struct place place = api_enter();
	struct block *block = block_of(pointer);
	if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached))
		own_hand_out(attached.object, pointer);
	api_leave_frame(block);
	alloc_hand_over(pointer);
	api_handed_on(place.thread, pointer, NULL);
	api_leave(place);
	return 0;
}

void *api_promote(void *pointer, enum trace_tier tier, const uintptr_t *fp)
{
	if (!pointer || (tier != TRACE_TIER_POOL && tier != TRACE_TIER_HEAP) || !api_is_live(pointer)) {
		errno = EINVAL;
		return NULL;
	}
	struct place place = api_enter();
	struct block *block = block_of(pointer);
	struct attachment attached;
	void *moved = api_make(place.thread, tier, block_size(block), fp);
	if (moved) {
		memcpy(moved, pointer, block_size(block));
		if (attach_find((uintptr_t)pointer, ATTACH_OWNED, &attached))
			own_hand_out(attached.object, pointer);
		own_release(place.thread, block, fp);
		api_handed_on(place.thread, moved, NULL);
	}
	api_leave(place);
	return moved;
}

static struct api_block_stats get_stats(struct own_stats *stats)
{
	struct api_block_stats out = {atomic_load(&stats->allocs), atomic_load(&stats->frees),
				      atomic_load(&stats->bytes), 0, 0};
	out.live_blocks = out.allocs - out.frees;
	out.live_bytes = out.bytes - atomic_load(&stats->freed_bytes);
	return out;
}

void api_stats_get(struct api_stats *out)
{
	*out = (struct api_stats){.frames = atomic_load(&api_frames_begun), .misuse = atomic_load(&api_misuses)};
	out->frame = get_stats(&own_frame_stats);
	out->other = get_stats(&own_other_stats);
	if (runtime_current() == RUNTIME_RECORDING) /* else the tables are the parent's, and not there */
		task_totals(TRACE_TASK_API, &out->tasks_started, &out->tasks_ended, &out->polls);
	api_bare_totals(out);
}
