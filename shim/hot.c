/* malloc, realloc and free: the fast paths of core/hot.h, and where those end a jump to the hooks that know their caller.
   Compiled without frame pointers, so that such a jump leaves no frame of ours behind. Also what is made of these by a jump. */
#include <errno.h>

#include "core/counter.h"
#include "core/hot.h"
#include "shim/hooks.h"

/* What is not served from the open frame's span. */
static always_inline void *malloc_in_slab(size_t size, struct thread *thread, const struct thread_class *class)
{
	void *pointer = hot_malloc_in_slab(thread, class, size, HOT_LEAVES);
	if (likely(pointer != NULL))
		return pointer;
	return hook_malloc(size);
}

/* Of a demoted class, and where no frame is open. Not inlined: malloc keeps its registers for the case it is made for. */
static __attribute__((noinline)) void *malloc_of_class(size_t size, struct thread *thread,
						       const struct thread_class *class)
{
	return likely(size <= thread->small_class_max) ? malloc_in_slab(size, thread, class) : hook_malloc(size);
}

static __attribute__((noinline)) void *malloc_small(size_t size, struct thread *thread)
{
	const struct thread_class *class;
	return likely(hot_class(thread, size, thread->small_class_max, &class)) ? malloc_in_slab(size, thread, class)
										: hook_malloc(size);
}

EXPORT void *malloc(size_t size)
{
	struct thread *thread = thread_self;
	const struct thread_class *class;
	if (unlikely(!hot_class(thread, size, thread->bump_class_max, &class)))
		return malloc_small(size, thread);
	if (unlikely(class->counter->route))
		return malloc_of_class(size, thread, class);
	void *pointer = hot_malloc_in_span(thread, class, size, HOT_LEAVES);
	if (likely(pointer != NULL))
		return pointer;
	return hook_malloc(size);
}

/* Not inlined, for the same reason. `place`: hot_death_at. */
static __attribute__((noinline)) void free_small(struct thread *thread, struct block *block, uint64_t place)
{
	if (unlikely(place > (BLOCK_COUNTER_MASK | BLOCK_IN_SLAB)) ||
	    unlikely(!hot_free_in_slab(thread, block, counter_at(place & BLOCK_COUNTER_MASK))))
		hook_free(block + 1);
}

static __attribute__((noinline)) void free_other(void *pointer)
{
	if (pointer)
		hook_free(pointer);
}

EXPORT void free(void *pointer)
{
	struct thread *thread = thread_self;
	struct block *block = block_of(pointer);
	if (unlikely(!hot_has_header(pointer)) || unlikely(thread->gate != THREAD_READY)) {
		free_other(pointer);
		return;
	}
	uint64_t place = block->birth ^ thread->clean_birth;
	if (likely(place <= BLOCK_COUNTER_MASK))
		hot_free_in_span(thread, block, counter_at((uint32_t)place));
	else
		free_small(thread, block, place);
}

/* Not inlined: it calls, and the rest of realloc needs no frame. `place`: hot_death_at. */
static __attribute__((noinline)) void *realloc_small(void *pointer, size_t size, uint64_t place)
{
	struct hot_death death = hot_death_at(thread_self, block_of(pointer), place);
	void *resized = likely(death.in_slab) ? hot_realloc_in_slab(death, size) : NULL;
	return likely(resized != NULL) ? resized : hook_realloc(pointer, size);
}

EXPORT void *realloc(void *pointer, size_t size)
{
	struct thread *thread = thread_self;
	if (unlikely(!hot_has_header(pointer)) || unlikely(thread->gate != THREAD_READY))
		return hook_realloc(pointer, size);
	uint64_t place = block_of(pointer)->birth ^ thread->clean_birth;
	if (unlikely(place > BLOCK_COUNTER_MASK)) /* in a slab, or not here */
		return realloc_small(pointer, size, place);
	struct hot_death death = hot_death_at(thread, block_of(pointer), place);
	return likely(hot_realloc_in_span(death, size)) ? pointer : hook_realloc(pointer, size);
}

/* As in glibc, whoever provides realloc and free: a program may bring these and no others of its own. */
EXPORT void *reallocarray(void *pointer, size_t count, size_t size)
{
	size_t bytes;
	if (unlikely(__builtin_mul_overflow(count, size, &bytes))) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(pointer, bytes);
}

/* C23: the size and alignment are promises of the caller, never how the block is found. */
EXPORT void free_sized(void *pointer, size_t size)
{
	(void)size;
	free(pointer);
}

EXPORT void free_aligned_sized(void *pointer, size_t align, size_t size)
{
	(void)align, (void)size;
	free(pointer);
}

extern __typeof__(malloc) own_malloc __attribute__((alias("malloc"), visibility("hidden"), copy(malloc)));
ALIAS(free, cfree);
ALIAS(malloc, __libc_malloc);
ALIAS(free, __libc_free);
ALIAS(realloc, __libc_realloc);
ALIAS(reallocarray, __libc_reallocarray);
