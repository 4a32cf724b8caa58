/* malloc, realloc and free: the fast paths of core/hot.h, and where those end a jump to the hooks that know their caller. Compiled
   without frame pointers, so that such a jump leaves no frame of ours behind. */
#include "core/hot.h"
#include "shim/hooks.h"

/* What is not served inside a frame. Not inlined: malloc keeps its registers for the case it is made for. */
static __attribute__((noinline)) void *malloc_small(size_t size)
{
	void *pointer = hot_malloc_small(size);
	if (likely(pointer != NULL))
		return pointer;
	return hook_malloc(size);
}

EXPORT void *malloc(size_t size)
{
	void *pointer = hot_malloc(size);
	if (likely(pointer != NULL))
		return pointer;
	return malloc_small(size);
}

/* Not inlined, for the same reason. */
static __attribute__((noinline)) void free_small(struct thread *thread, struct block *block, struct trace_counter *counter)
{
	hot_free_in_slab((struct hot_death){.thread = thread, .block = block, .counter = counter, .in_slab = true});
}

static __attribute__((noinline)) void free_other(void *pointer)
{
	if (pointer)
		hook_free(pointer);
}

EXPORT void free(void *pointer)
{
	struct hot_death death = hot_death_of(pointer);
	if (unlikely(!death.counter))
		free_other(pointer);
	else if (likely(!death.in_slab))
		hot_free_in_span(death);
	else
		free_small(death.thread, death.block, death.counter);
}

EXPORT void *realloc(void *pointer, size_t size)
{
	if (likely(pointer != NULL) && likely(size) && likely(hot_realloc(pointer, size)))
		return pointer;
	return hook_realloc(pointer, size);
}

ALIAS(free, cfree);
ALIAS(malloc, __libc_malloc);
ALIAS(free, __libc_free);
ALIAS(realloc, __libc_realloc);
