/*
 * The fast paths of malloc and free, compiled into the hooks themselves (shim/hot.c): what an engine does thousands of
 * times a frame. They serve the plain cases, whole, or do nothing and leave the call to the general path (alloc.h).
 *
 * They enter no lock, call nothing where the case is plain (a site seen first, a way not taken of late, a slab's last block
 * are not), and write no line that another thread writes, but with HOT_SEES at a site's first birth in a frame.
 */
#ifndef FA_HOT_H
#define FA_HOT_H

#include <string.h>

#include "core/account.h"
#include "core/alloc.h"
#include "core/block.h"
#include "core/counter.h"
#include "core/path/lookup.h"
#include "core/region/region.h"
#include "core/site.h"
#include "core/thread.h"
#include "core/tier/frame.h"
#include "core/tier/pool.h"

/* The last block of a span has died; the gate is open. */
cold_path void hot_span_emptied(struct thread *thread, struct frame_span *span);
/* The same of a slab; opens the gate. */
cold_path void hot_slab_emptied(struct thread *thread, struct pool_slab *slab);

/* What is fetched ahead of the bump pointer: 4 % of a loop that fills spans. */
#define HOT_AHEAD_BYTES 256

/* How a birth is served whose site the slot is yet to see, in this frame: where a call costs nothing it is seen at once. */
enum hot_unseen { HOT_LEAVES, HOT_SEES };

/* A plain birth, which is counted by this. */
static always_inline bool hot_is_plain(struct thread *thread, struct trace_counter *counter, enum hot_unseen unseen)
{
	if (unseen == HOT_LEAVES)
		return likely(account_plain(counter));
	if (unlikely(!account_plain(counter))) {
		account_seen(thread, counter);
		account_plain(counter);
	}
	return true;
}

/* A block of 1 byte or more from the open frame's span; `word` is for its header. NULL: not here. */
static always_inline void *hot_birth_in_span(struct thread *thread, struct trace_counter *counter, uint64_t word,
					     size_t size, enum hot_unseen unseen)
{
	size_t usable = ((size - 1) | 15) + 1;
	struct block *room = (struct block *)thread->bump;
	uint8_t *end = (uint8_t *)(room + 1) + usable;
	if (unlikely(end > thread->limit) || unlikely(!hot_is_plain(thread, counter, unseen)))
		return NULL;
	__builtin_prefetch(end + HOT_AHEAD_BYTES, 1);
	thread->bump = end;
	account_next_line();
	account_birth_sums(counter, &thread->record->tier[TRACE_TIER_FRAME], size, usable);
	return block_start_plain(room, word, block_span_base, size);
}

/* A plain birth in a slab, counted by this, that leaves the thread below the mark at which peaks are looked at. */
static always_inline bool hot_slab_birth_is_plain(struct thread *thread, struct trace_counter *counter, size_t usable,
						  enum hot_unseen unseen)
{
	return likely(thread->small_sums->live_bytes + (int64_t)usable <= thread->small_peak_at) &&
	       hot_is_plain(thread, counter, unseen);
}

/* The same from a slab, by the cache of the size: what lies there is what scope_settle says. */
static always_inline void *hot_birth_in_slab(struct thread *thread, struct trace_counter *counter,
					     struct thread_cache *cache, uint64_t word, size_t size,
					     enum hot_unseen unseen)
{
	size_t usable = ((size - 1) | 15) + 1;
	struct block *room = cache->head;
	if (unlikely(!room) || unlikely(!hot_slab_birth_is_plain(thread, counter, usable, unseen)))
		return NULL;
	pool_pop(cache);
	account_birth_sums(counter, thread->small_sums, size, usable);
	return block_start_plain(room, word | BLOCK_IN_SLAB, thread->small_base, size);
}

/* The class of what may be served from spans, or from slabs, as far as its size tells. False: not here. */
static always_inline bool hot_class(struct thread *thread, size_t size, size_t max, const struct thread_class **class)
{
	size_t below = size - 1; /* of 0 bytes: more than any limit */
	if (unlikely(below >= max) || unlikely(thread->gate != THREAD_READY))
		return false;
	*class = &thread->classes[below / 16];
	return true;
}

/* malloc with stacks=none of a class that is served from spans. The gate is open. NULL: not here, nothing is done. Cost: some
   forty instructions, all loads from lines of this thread. */
static always_inline void *hot_malloc_in_span(struct thread *thread, const struct thread_class *class, size_t size,
					      enum hot_unseen unseen)
{
	struct trace_counter *counter =
		(struct trace_counter *)class->counter; /* before the gate is shut, with its route */
	thread_shut(thread);
	void *pointer = hot_birth_in_span(thread, counter, thread->birth | class->place, size, unseen);
	thread_open(thread);
	return pointer;
}

/* The same of a class that is served from slabs: outside frames all that is small. */
static always_inline void *hot_malloc_in_slab(struct thread *thread, const struct thread_class *class, size_t size,
					      enum hot_unseen unseen)
{
	thread_shut(thread);
	struct trace_counter *counter = (struct trace_counter *)class->counter;
	void *pointer = NULL;
	if (likely(counter->route == thread->small_route))
		pointer = hot_birth_in_slab(thread, counter, &thread->small_caches[class->cache],
					    thread->birth | class->place, size, unseen);
	thread_open(thread);
	return pointer;
}

/* The same of any class. */
static always_inline void *hot_malloc(struct thread *thread, size_t size, enum hot_unseen unseen)
{
	const struct thread_class *class;
	if (hot_class(thread, size, thread->bump_class_max, &class) && !class->counter->route) {
		void *pointer = hot_malloc_in_span(thread, class, size, unseen);
		if (likely(pointer != NULL))
			return pointer;
	}
	return hot_class(thread, size, thread->small_class_max, &class)
		       ? hot_malloc_in_slab(thread, class, size, unseen)
		       : NULL;
}

/* malloc with call paths, of a path that is known. `fp`: alloc.h. NULL: not here, nothing is done. */
static always_inline void *hot_malloc_by_path(size_t size, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	if (unlikely(thread->gate != THREAD_READY) || unlikely(!thread->alloc_paths))
		return NULL;
	thread_shut(thread);
	void *pointer = NULL;
	const struct tree_run *path = path_known(thread->alloc_paths, fp, thread->tag);
	if (likely(path != NULL)) {
		uint32_t place = path->answer;
		struct trace_counter *counter = counter_at(place);
		if (!counter->route && size - 1 < thread->bump_max)
			pointer = hot_birth_in_span(thread, counter, thread->birth | place, size, HOT_SEES);
		else if (size - 1 < thread->small_max && counter->route == thread->small_route)
			pointer = hot_birth_in_slab(thread, counter,
						    &thread->small_caches[pool_class_known(block_usable(size))],
						    thread->birth | place, size, HOT_SEES);
		if (unlikely(!pointer))
			path_take_back(thread->alloc_paths);
	}
	thread_open(thread);
	return pointer;
}

/* A death in the segment of its birth; that was on this thread, so that the block's span or slab is ours. */
struct hot_death {
	struct thread *thread;
	struct block *block;
	struct trace_counter *counter; /* NULL: it is none, or none that may be dealt with here; nothing is done */
	bool in_slab;
};

/* `block` begins with a header, if not with one of ours; `place` is its birth against the thread's present one, read once. */
static always_inline struct hot_death hot_death_at(struct thread *thread, struct block *block, uint64_t place)
{
	struct hot_death death = {.thread = thread, .block = block};
	if (unlikely(place > (BLOCK_COUNTER_MASK | BLOCK_IN_SLAB)))
		return death;
	death.counter = counter_at(place & BLOCK_COUNTER_MASK);
	death.in_slab = place & BLOCK_IN_SLAB;
	return death;
}

/* The same. Cost: one load, one compare for three questions (block.h). */
static always_inline struct hot_death hot_death_in(struct thread *thread, struct block *block)
{
	return hot_death_at(thread, block, block->birth ^ thread->clean_birth);
}

/* A header that would lie in another page than what the program sees is left to those who ask whose the page is; NULL is
   one of these. Elsewhere the 16 bytes before a block of anybody's can be read. */
static always_inline bool hot_has_header(const void *pointer)
{
	return (uintptr_t)pointer & 0xff0;
}

static always_inline struct hot_death hot_death_of(void *pointer)
{
	struct hot_death none = {.thread = thread_self, .block = block_of(pointer)};
	if (unlikely(!hot_has_header(pointer)) || unlikely(none.thread->gate != THREAD_READY))
		return none;
	return hot_death_in(none.thread, none.block);
}

/* Usable bytes of a plain block: they have few, so that half of `state` tells, and some. */
static always_inline size_t hot_usable(const struct block *block)
{
	return ((size_t)(uint32_t)block->state + 15) & ~(size_t)15;
}

/* A death in a span, in the segment of the birth. */
static always_inline void hot_account_death_in_span(struct thread *thread, struct trace_counter *counter, size_t usable)
{
	account_death(counter, &thread->record->tier[TRACE_TIER_FRAME], usable);
	counter->died_in_segment++;
}

/* realloc of a block in a span, the one at the end of the open frame's span, born in this segment: it grows or shrinks where
   it lies, however large, as far as the span reaches. A death with its counter, and a birth. False: not here, nothing is
   done. */
static always_inline bool hot_resize_at_end(struct hot_death death, struct trace_counter *counter, uint64_t word,
					    size_t size, enum hot_unseen unseen)
{
	struct thread *thread = death.thread;
	uint8_t *start = (uint8_t *)(death.block + 1);
	size_t old_usable = hot_usable(death.block), usable = ((size - 1) | 15) + 1;
	if (start + old_usable != thread->bump || unlikely(counter->route) ||
	    unlikely(usable > (size_t)(thread->limit - start)) || unlikely(!hot_is_plain(thread, counter, unseen)))
		return false;
	hot_account_death_in_span(thread, death.counter, old_usable);
	thread->bump = start + usable;
	account_birth_sums(counter, &thread->record->tier[TRACE_TIER_FRAME], size, usable);
	block_start_plain(death.block, word, block_span_base, size);
	return true;
}

/* A death in a slab, of a block that is tagged as this thread's births are. */
static always_inline void hot_account_death_in_slab(struct thread *thread, struct trace_counter *counter, size_t usable)
{
	(&counter->died_in_segment)[thread->small_outside]++;
	account_death(counter, thread->small_sums, usable);
}

/* The same with all that the death of a block comes to. True: it was the last of its slab, pool_slab_emptied must follow. */
static always_inline bool hot_die_in_slab(struct thread *thread, struct block *block, struct trace_counter *counter,
					  size_t usable)
{
	hot_account_death_in_slab(thread, counter, usable);
	return pool_give_last(&thread->small_caches[pool_class_known(usable)], block);
}

/* realloc of a block in a slab that is tagged as this thread's births are, to 1 byte or more of what slabs serve: where it
   lies as long as its size class is the same, else it moves to a larger one, or to one of less than half the size. NULL: not
   here, nothing is done. */
static always_inline void *hot_resize_in_slab(struct hot_death death, struct trace_counter *counter, uint64_t word,
					      size_t size)
{
	struct thread *thread = death.thread;
	struct block *block = death.block;
	size_t old_usable = hot_usable(block), usable = block_usable(size);
	if (unlikely(block_tag(block) != thread->small_tag) || unlikely(counter->route != thread->small_route))
		return NULL;
	uint32_t was = pool_class_known(old_usable), wanted = pool_class_known(usable);
	if (was > wanted && usable >= pool_capacity(block) / 2) /* it stays, but plain no longer */
		return NULL;
	if (was == wanted) {
		if (unlikely(!hot_slab_birth_is_plain(thread, counter, usable, HOT_LEAVES)))
			return NULL;
		hot_account_death_in_slab(thread, death.counter, old_usable);
		account_birth_sums(counter, thread->small_sums, size, usable);
		return block_start_plain(block, word | BLOCK_IN_SLAB, thread->small_base, size);
	}
	void *pointer = hot_birth_in_slab(thread, counter, &thread->small_caches[wanted], word, size, HOT_LEAVES);
	if (unlikely(!pointer))
		return NULL;
	memcpy(pointer, block + 1, old_usable < size ? old_usable : size);
	if (unlikely(hot_die_in_slab(thread, block, death.counter, old_usable)))
		pool_slab_emptied(thread, pool_slab_of(block));
	return pointer;
}

/* realloc of a block in a span, born in this segment, wherever it lies there: it stays if it needs as much room as it has, else
   it moves to the end. NULL: not here, nothing is done. */
static always_inline void *hot_resize_in_span(struct hot_death death, struct trace_counter *counter, uint64_t word,
					      size_t size)
{
	struct thread *thread = death.thread;
	size_t old_usable = hot_usable(death.block), usable = block_usable(size);
	if (unlikely(counter->route) || unlikely(size - 1 >= thread->bump_max))
		return NULL;
	if (usable == old_usable) {
		if (unlikely(!hot_is_plain(thread, counter, HOT_LEAVES)))
			return NULL;
		hot_account_death_in_span(thread, death.counter, old_usable);
		account_birth_sums(counter, &thread->record->tier[TRACE_TIER_FRAME], size, usable);
		return block_start_plain(death.block, word, block_span_base, size);
	}
	void *pointer = hot_birth_in_span(thread, counter, word, size, HOT_LEAVES);
	if (unlikely(!pointer))
		return NULL;
	memcpy(pointer, death.block + 1, old_usable < size ? old_usable : size);
	block_kill_in_span(death.block);
	hot_account_death_in_span(thread, death.counter, old_usable);
	struct frame_span *span = frame_span_of(death.block);
	if (unlikely(frame_one_dead(span, old_usable)))
		frame_span_emptied(thread, span);
	return pointer;
}

/* realloc in the plain cases: a death in the segment of the birth, and a birth in the same tier. The gate is shut. NULL: not
   that, nothing is done. */
static always_inline void *hot_resize(struct hot_death death, struct trace_counter *counter, size_t size)
{
	struct thread *thread = death.thread;
	uint64_t word = thread->birth | counter_place(counter);
	if (death.in_slab)
		return size - 1 < thread->small_max ? hot_resize_in_slab(death, counter, word, size) : NULL;
	if (block_tag(death.block) != BLOCK_IN_SCOPE)
		return NULL;
	if (hot_resize_at_end(death, counter, word, size, HOT_SEES))
		return death.block + 1;
	return hot_resize_in_span(death, counter, word, size);
}

/* The same with call paths, of a path that is known. NULL: not here, nothing is done. */
static always_inline void *hot_realloc_by_path(void *pointer, size_t size, const uintptr_t *fp)
{
	struct thread *thread = thread_self;
	if (unlikely(!hot_has_header(pointer)) || unlikely(thread->gate != THREAD_READY) ||
	    unlikely(!thread->alloc_paths) || unlikely(size - 1 >= REGION_CHUNK_BYTES))
		return NULL;
	thread_shut(thread);
	void *resized = NULL;
	struct hot_death death = hot_death_in(thread, block_of(pointer));
	if (likely(death.counter != NULL)) {
		const struct tree_run *path = path_known(thread->alloc_paths, fp, thread->tag);
		if (likely(path != NULL)) {
			resized = hot_resize(death, counter_at(path->answer), size);
			if (unlikely(!resized))
				path_take_back(thread->alloc_paths);
		}
	}
	thread_open(thread);
	return resized;
}

/* realloc with stacks=none of what lies in a span. False: not here, nothing is done. */
static always_inline bool hot_realloc_in_span(struct hot_death death, size_t size)
{
	struct thread *thread = death.thread;
	if (unlikely(!thread->bump_class_max) || unlikely(size - 1 >= REGION_CHUNK_BYTES))
		return false;
	const struct thread_class *class = &thread->classes[site_place(size)];
	thread_shut(thread);
	bool done = hot_resize_at_end(death, (struct trace_counter *)class->counter, thread->birth | class->place, size,
				      HOT_LEAVES);
	thread_open(thread);
	return done;
}

/* The same of what lies in a slab. NULL: not here, nothing is done. */
static always_inline void *hot_realloc_in_slab(struct hot_death death, size_t size)
{
	struct thread *thread = death.thread;
	if (unlikely(size - 1 >= thread->small_class_max))
		return NULL;
	const struct thread_class *class = &thread->classes[site_place(size)];
	thread_shut(thread);
	void *resized =
		hot_resize_in_slab(death, (struct trace_counter *)class->counter, thread->birth | class->place, size);
	thread_open(thread);
	return resized;
}

/* free of what lies in a span. A signal handler may come between any two instructions; it finds a block that is not dead
   yet, or not counted yet. The gate is shut only where the block's room is given back: until the death is counted in its
   span, nobody else can take the bump pointer below its end. */
static always_inline void hot_free_in_span(struct thread *thread, struct block *block, struct trace_counter *counter)
{
	size_t usable = hot_usable(block);
	const uint8_t *end = (uint8_t *)(block + 1) + usable;
	block_kill_in_span(block);
	account_next_line();
	counter->died_in_segment++;
	account_death(counter, &thread->record->tier[TRACE_TIER_FRAME], usable);
	struct frame_span *span = frame_span_of(block);
	if (end == thread->bump) {
		thread_shut(thread);
		if (likely(end == thread->bump)) {
			frame_retract(thread, block);
			thread_open(thread);
			return;
		}
		thread_open(thread);
	}
	if (unlikely(frame_one_dead(span, usable)))
		hot_span_emptied(thread, span);
}

/* free of what lies in a slab and is tagged as this thread's births are. False: it is another's, nothing is done. */
static always_inline bool hot_free_in_slab(struct thread *thread, struct block *block, struct trace_counter *counter)
{
	thread_shut(thread); /* first: a handler may open or close a frame */
	if (unlikely(block_tag(block) != thread->small_tag)) {
		thread_open(thread);
		return false;
	}
	if (unlikely(hot_die_in_slab(thread, block, counter, hot_usable(block))))
		hot_slab_emptied(thread, pool_slab_of(block));
	else
		thread_open(thread);
	return true;
}

#endif
