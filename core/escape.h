/*
 * Deaths in another segment than the birth's that are like one before: of a frame block whose frame has ended, or on another
 * thread. Each thread keeps a short list of the kinds it saw of late, with the place in the recording where they are counted:
 * then a death comes to plain additions to lines of its own slot.
 */
#ifndef FA_ESCAPE_H
#define FA_ESCAPE_H

#include "core/check.h"
#include "core/counter.h"
#include "core/node.h"
#include "core/operation.h"
#include "core/slot.h"

static always_inline struct thread_escape escape_key(uint32_t code, enum trace_level level, uint32_t site,
						     uint32_t died_node)
{
	return (struct thread_escape){.nodes = site | (uint64_t)died_node << 32, .kind = code | (uint32_t)level << 16};
}

static always_inline uint32_t escape_died_node(struct thread_escape key)
{
	return (uint32_t)(key.nodes >> 32);
}

static always_inline enum trace_level escape_level(struct thread_escape key)
{
	return (enum trace_level)(key.kind >> 16);
}

static always_inline struct thread_escape *escape_of(struct thread *thread, struct thread_escape key)
{
	return &thread->escapes[((uint32_t)key.nodes + escape_died_node(key) * 31 + key.kind * 7) % THREAD_ESCAPES];
}

static always_inline bool escape_is_known(const struct thread_escape *escape, struct thread_escape key)
{
	return likely(escape->nodes == key.nodes) && likely(escape->kind == key.kind) && likely(escape->tally != NULL);
}

static always_inline void escape_count(struct thread *thread, struct trace_tally *tally, size_t size, uint64_t frame,
				       uint32_t lifetime_frames)
{
	thread->frame_violations++;
	tally->count++;
	tally->bytes += size;
	tally->last_frame = frame;
	if (lifetime_frames > tally->worst_lifetime_frames)
		tally->worst_lifetime_frames = lifetime_frames;
}

static always_inline void escape_count_lifetime(struct trace_tally *tally, uint32_t lifetime_frames)
{
	if (lifetime_frames)
		tally->lifetime[trace_lifetime_bucket(lifetime_frames)]++;
}

/* All that a death of a known kind adds, but for its verdict. */
static always_inline void escape_account(struct thread *thread, struct trace_counter *counter, enum trace_tier tier,
					 size_t size, struct trace_tally *tally, uint64_t frame,
					 uint32_t lifetime_frames)
{
	size_t usable = block_usable(size);
	account_death(counter, &thread->record->tier[tier], usable);
	thread->other_deaths++;
	thread->other_deaths_bytes += usable;
	thread->slow_frees++; /* not a block of this thread's open frame */
	escape_count(thread, tally, size, frame, lifetime_frames);
	escape_count_lifetime(tally, lifetime_frames);
}

/* The thread whose record this is, while it lives. */
static inline struct thread *escape_owner(const struct trace_thread *record)
{
	return record->end_ns ? NULL : slot_at(record->slot);
}

/* Where a plain block of a frame may lie. */
#define ESCAPE_TAG_SPAN (BLOCK_IN_SCOPE | BLOCK_TIER(TRACE_TIER_FRAME) | BLOCK_ACCOUNT(TRACE_TIER_FRAME))
#define ESCAPE_TAG_SLAB (BLOCK_IN_SCOPE | BLOCK_TIER(TRACE_TIER_POOL) | BLOCK_ACCOUNT(TRACE_TIER_POOL))

/* Whose span or slab `block` lies in; NULL: it lies in none. Cost: four loads. */
static always_inline struct thread *escape_home(const struct block *block)
{
	static_assert(offsetof(struct pool_slab, owner) == offsetof(struct frame_span, owner),
		      "either is asked as the other");
	enum region_owner owner = region_owner_of(block);
	return owner == REGION_FRAME || owner == REGION_POOL ? pool_slab_of(block)->owner : NULL;
}

/* A plain live block of a frame, in a span or slab. */
static always_inline bool escape_is_plain(uint64_t birth, uint64_t contents)
{
	uint64_t tag = contents >> BLOCK_TAG_SHIFT;
	return (tag == ESCAPE_TAG_SLAB || tag == ESCAPE_TAG_SPAN) &&
	       (birth & (BLOCK_LIVES | BLOCK_NOT_PLAIN)) == BLOCK_LIVES;
}

/* free of a block that is at home, whole, if it is a plain one of an earlier frame of this thread: what escapes there are are
   mostly these. The gate is shut. False: it is none, or of a kind that is not known yet, and nothing is done. */
static always_inline bool escape_free_at_home(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	uint64_t birth = block->birth, contents = block_contents(block), id = block_segment(block);
	bool in_slab = contents >> BLOCK_TAG_SHIFT == ESCAPE_TAG_SLAB;
	struct segment_record segment;
	if (!escape_is_plain(birth, contents) || unlikely(events_area != NULL) || unlikely(thread->task) ||
	    unlikely(segment_is_inherited(id)) || unlikely(!segment_resolve(id, &segment)) ||
	    unlikely(segment.thread != thread->record_index)) /* of a thread that had this slot before */
		return false;
	uint32_t lifetime_frames = thread->frame - segment.frame;
	if (unlikely(!lifetime_frames) ||
	    (!in_slab && unlikely(lifetime_frames > runtime.long_lived))) /* FA501 is the frame tier's */
		return false;
	struct trace_counter *counter = counter_at(block_counter(block));
	struct thread_escape key =
		escape_key(601, check_lifetime_level(false), counter->site, fp ? node_of_call(thread, fp) : 0);
	const struct thread_escape *escape = escape_of(thread, key);
	if (unlikely(!escape_is_known(escape, key)))
		return false;

	size_t size = contents & BLOCK_SIZE_MASK;
	block_kill(block);
	escape_account(thread, counter, in_slab ? TRACE_TIER_POOL : TRACE_TIER_FRAME, size, escape->tally,
		       thread->frame, lifetime_frames);
	counter->outlived_frame++;
	if (in_slab)
		pool_give(thread, block);
	else
		frame_give(thread, block, size);
	return true;
}

/* How long a block has lived that was born in a frame of `owner`, and whether that frame is open. */
struct escape_age {
	uint32_t now, frames; /* at least 1 where it is not open */
	bool open;
};
static always_inline struct escape_age escape_age(const struct trace_thread *owner, uint32_t born_frame)
{
	struct escape_age age = {.now = (uint32_t)owner->frames};
	age.frames = age.now - born_frame;
	age.open = !age.frames && owner->open_begin_ns && !owner->end_ns;
	if (!age.open && !age.frames)
		age.frames = 1;
	return age;
}

/* `holder`: the thread whose frame it is, if it lives. */
static always_inline void escape_count_verdict(struct trace_counter *counter, bool open, struct thread *holder)
{
	if (!open) {
		counter->outlived_frame++;
		return;
	}
	if (holder)
		atomic_fetch_add_explicit(&holder->own_deaths_remote, 1, memory_order_relaxed);
	counter->died_elsewhere++;
}

/* The same of a block of another thread's, `home`, that was born on it. Cost: of the lines of that thread only those that a frame
   changes once; one atomic operation where that frame is still open. */
static always_inline bool escape_free_elsewhere(struct thread *thread, struct thread *home, struct block *block,
						const uintptr_t *fp)
{
	uint64_t birth = block->birth, contents = block_contents(block), id = block_segment_of(birth);
	struct segment_record segment;
	if (unlikely(!escape_is_plain(birth, contents)) || unlikely(events_area != NULL) || unlikely(thread->task) ||
	    unlikely(segment_is_inherited(id)) || unlikely(!segment_resolve(id, &segment)) ||
	    unlikely(segment.thread == thread->record_index))
		return false;
	const struct trace_thread *owner = trace_at(&trace_threads, segment_thread(&segment));
	struct escape_age age = escape_age(owner, segment.frame);
	if (unlikely(owner->end_ns) || unlikely(age.frames > runtime.long_lived))
		return false;
	uint32_t site = block_site(block);
	struct thread_escape key =
		escape_key(age.open ? 201 : 205, check_lifetime_level(false), site, fp ? node_of_call(thread, fp) : 0);
	const struct thread_escape *escape = escape_of(thread, key);
	if (unlikely(!escape_is_known(escape, key)))
		return false;

	bool in_slab = contents >> BLOCK_TAG_SHIFT == ESCAPE_TAG_SLAB;
	struct trace_counter *counter = counter_of(thread, site);
	block_kill(block);
	escape_account(thread, counter, in_slab ? TRACE_TIER_POOL : TRACE_TIER_FRAME, contents & BLOCK_SIZE_MASK,
		       escape->tally, thread->in_frame ? thread->frame : age.now, age.frames);
	escape_count_verdict(counter, age.open, home);
	remote_gather(thread, home, block);
	return true;
}

/* The death of a live block, if it is one of a kind that is known, whole. False: it is not, and nothing is counted. Cost: of the
   lines of the thread that the block was born on only those that a frame changes once; one atomic operation where that frame
   is still open. */
static always_inline bool escape_die(struct thread *thread, struct block *block, const uintptr_t *fp)
{
	uint32_t tag = block_tag(block);
	uint64_t id = block_segment(block);
	struct segment_record segment;
	if ((tag & (BLOCK_SCOPE | BLOCK_ASKED | BLOCK_HANDED | BLOCK_SPECIAL)) != BLOCK_IN_SCOPE ||
	    id == thread_segment(thread) || unlikely(thread->task) || unlikely(segment_is_inherited(id)) ||
	    unlikely(!segment_resolve(id, &segment)))
		return false;
	bool own = segment.thread == thread->record_index;
	const struct trace_thread *owner = own ? thread->record : trace_at(&trace_threads, segment_thread(&segment));
	struct escape_age age = escape_age(owner, segment.frame);
	if (own && age.open) /* an await lies between, or nothing does */
		return false;
	if (unlikely(age.frames > runtime.long_lived))
		return false;
	uint32_t site = block_site(block);
	struct thread_escape key = escape_key(own        ? 601
					      : age.open ? 201
							 : 205,
					      check_lifetime_level(false), site, fp ? node_of_call(thread, fp) : 0);
	const struct thread_escape *escape = escape_of(thread, key);
	if (unlikely(!escape_is_known(escape, key)))
		return false;

	struct trace_counter *counter =
		counter_of(thread, site); /* records are handed on, to threads of other slots too */
	events_death(thread, block + 1);
	block_kill(block);
	escape_account(thread, counter, block_account(tag), block_size(block), escape->tally,
		       thread->in_frame ? thread->frame
		       : owner->end_ns  ? 0
					: age.now,
		       age.frames);
	escape_count_verdict(counter, age.open, escape_owner(owner));
	return true;
}

#endif
