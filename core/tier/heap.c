/* jemalloc behind our header. The functions named heap_sys_* are what objcopy put in place of the libc calls that
   jemalloc makes (shim/jemalloc.syms): its memory comes from the region, and it obeys FA_MALLOC_CONF instead of the
   target's MALLOC_CONF. */
#define _GNU_SOURCE
#include "core/tier/heap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/types.h>

#include "core/region/region.h"
#include "core/runtime.h"
#include "core/tier/direct.h"
#include "core/tier/heap_pages.h"
#include "core/tier/jemalloc.h"

void *heap_sys_mmap(void *address, size_t bytes, int prot, int flags, int fd, off_t offset);
int heap_sys_munmap(void *address, size_t bytes);
char *heap_sys_getenv(const char *name);
ssize_t heap_sys_readlink(const char *path, char *out, size_t bytes);
void *heap_sys_sbrk(intptr_t increment);
double heap_sys_log(double x);
double heap_sys_exp(double x);
double heap_sys_round(double x);
int heap_sys_unwind_backtrace(void *callback, void *context);
uintptr_t heap_sys_unwind_getip(void *context);
void heap_sys_stack_chk_fail(void);
int heap_sys_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
			    void *argument);
int heap_sys_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int heap_sys_pthread_key_create(pthread_key_t *key, void (*destructor)(void *value));

/* jemalloc cannot be entered twice by a thread: its caches would be found half changed, its locks taken. A signal handler that
   interrupted it gets pages of its own, and leaves what it frees to be freed afterwards. */
static __thread bool inside;
static __thread _Atomic(struct block *) waiting; /* chained by `birth`: they are dead */

static void free_now(struct block *block)
{
	char *base = (char *)block;
	if (unlikely(block_size(block) >= HEAP_PAGES_LARGE))
		heap_pages_freed(block + 1, block_size(block));
	if (unlikely(block_tag(block) & BLOCK_ALIGNED))
		base = (char *)(block + 1) - ((uint64_t *)block)[-1];
	fa_je_free(base);
}

static always_inline void enter(void)
{
	inside = true;
	atomic_signal_fence(memory_order_seq_cst);
}

static cold_path void free_waiting(void)
{
	for (struct block *block = atomic_exchange(&waiting, NULL), *next; block; block = next) {
		next = (struct block *)block->birth;
		free_now(block);
	}
}

static always_inline void leave(void)
{
	while (unlikely(atomic_load_explicit(&waiting, memory_order_relaxed)))
		free_waiting();
	atomic_signal_fence(memory_order_seq_cst);
	inside = false;
}

cold_path void heap_free_later(struct block *block)
{
	struct block *head = atomic_load(&waiting);
	do
		block->birth = (uint64_t)head;
	while (!atomic_compare_exchange_weak(&waiting, &head, block));
}

static void *start_at(void *base, size_t offset, uint64_t birth, uint32_t tag, size_t size)
{
	return block_start((struct block *)((char *)base + offset) - 1, birth, tag | BLOCK_TIER(TRACE_TIER_HEAP), size);
}

static cold_path void *alloc_aligned(size_t size, size_t align, uint64_t birth, uint32_t tag, bool zeroed)
{
	if (align > BLOCK_SIZE_MAX - size)
		return NULL;
	char *base = fa_je_aligned_alloc(align, block_usable(size) + align);
	if (!base)
		return NULL;
	if (zeroed)
		memset(base + align, 0, size);
	uint64_t *note = (uint64_t *)(base + align - BLOCK_HEADER_BYTES) - 1;
	*note = align;
	return start_at(base, align, birth, tag | BLOCK_ALIGNED, size);
}

void *heap_alloc(size_t size, size_t align, uint64_t birth, uint32_t tag, bool zeroed)
{
	if (unlikely(inside))
		return direct_alloc(size, align, birth, tag);
	void *pointer = unlikely(size >= region.exact_min) ? direct_alloc(size, align, birth, tag) : NULL;
	if (unlikely(pointer != NULL))
		return pointer;
	enter();
	if (unlikely(align > BLOCK_HEADER_BYTES)) {
		pointer = alloc_aligned(size, align, birth, tag, zeroed);
	} else {
		/* Rounded so that every byte up to the usable size is there. */
		size_t need = block_usable(size) + BLOCK_HEADER_BYTES;
		void *base = zeroed ? fa_je_calloc(1, need) : fa_je_malloc(need);
		if (likely(base != NULL))
			pointer = start_at(base, BLOCK_HEADER_BYTES, birth, tag, size);
	}
	if (unlikely(size >= HEAP_PAGES_LARGE) && pointer)
		heap_pages_taken(size);
	leave();
	return pointer;
}

void heap_free(struct block *block)
{
	if (unlikely(inside)) {
		heap_free_later(block);
		return;
	}
	enter();
	free_now(block);
	leave();
}

void heap_other_taken(size_t bytes)
{
	if (inside)
		return;
	enter();
	heap_pages_taken(bytes);
	leave();
}

void heap_later(uint64_t now_ns)
{
	if (inside || !atomic_load_explicit(&heap_pages_watched, memory_order_relaxed))
		return;
	enter();
	heap_pages_later(now_ns);
	leave();
}

void heap_free_rest(void)
{
	if (inside)
		return;
	enter();
	leave();
}

void *heap_realloc(struct block *block, size_t size, uint64_t birth, uint32_t tag)
{
	fa_assert(!(block_tag(block) & BLOCK_ALIGNED));
	if (unlikely(inside))
		return NULL;
	enter();
	/* Marked dead first: where the block moves, its old header must not pass for a live one. */
	size_t before = block_size(block);
	block_kill(block);
	void *base = fa_je_rallocx(block, block_usable(size) + BLOCK_HEADER_BYTES, 0);
	void *pointer = base ? start_at(base, BLOCK_HEADER_BYTES, birth, tag, size) : NULL;
	if (unlikely(!base))
		block_revive(block);
	else if (unlikely(size >= HEAP_PAGES_LARGE || before >= HEAP_PAGES_LARGE))
		heap_pages_resized(before, size);
	leave();
	return pointer;
}

void heap_stats(size_t *allocated_bytes, size_t *active_bytes, size_t *mapped_bytes)
{
	*allocated_bytes = *active_bytes = *mapped_bytes = 0;
	if (inside)
		return;
	enter();
	jemalloc_refresh();
	*allocated_bytes = jemalloc_figure("stats.allocated");
	*active_bytes = jemalloc_figure("stats.active");
	*mapped_bytes = jemalloc_figure("stats.mapped");
	leave();
}

void heap_trim(void)
{
	if (inside)
		return;
	enter();
	fa_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	heap_pages_give_back();
	leave();
}

/* fork takes all locks of jemalloc, and releases them. Not where this thread is inside already: in a handler that interrupted
   it there, or in one that interrupted fork itself. Such a child goes on with the locks that its thread has, which are given
   back in the end; those of other threads nobody gives back. */
static __thread uint32_t forks_inside;

static void before_fork(void)
{
	if (inside) {
		forks_inside++;
		return;
	}
	enter(); /* until the locks are free again */
	je_jemalloc_prefork();
}

static void after_fork_in_parent(void)
{
	if (forks_inside) {
		forks_inside--;
		return;
	}
	je_jemalloc_postfork_parent();
	leave();
}

void heap_child(void)
{
	if (!inside || !__libc_single_threaded)
		je_jemalloc_postfork_child();
}

static void after_fork_in_child(void)
{
	if (forks_inside) {
		forks_inside--;
		heap_child();
		return;
	}
	je_jemalloc_postfork_child();
	inside = false; /* what waits to be freed waits on: this process's own accounts are not there yet */
}

void *heap_sys_mmap(void *address, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	/* Without a region the shim stands aside; jemalloc's own constructor runs all the same. */
	if (flags & MAP_FIXED || !region.bytes)
		return mmap(address, bytes, prot, flags, fd, offset);
	if (address) { /* a wish for neighbouring addresses: jemalloc gives back what does not fit */
		errno = ENOMEM;
		return MAP_FAILED;
	}
	void *start = region_heap_map(bytes, prot);
	if (start)
		return start;
	errno = ENOMEM;
	return MAP_FAILED;
}

int heap_sys_munmap(void *address, size_t bytes)
{
	if (!region_holds(address))
		return munmap(address, bytes);
	region_heap_unmap(address, bytes);
	return 0;
}

char *heap_sys_getenv(const char *name)
{
	/* Only the variable that names jemalloc's options is ever asked for. */
	char *options = base_text_equal(name, "MALLOC_CONF") ? (char *)runtime_environment("FA_MALLOC_CONF") : NULL;
	/* A thread whose arena cannot be made, for want of addresses, crashes; the first is there. */
	static char one_arena[] = "narenas:1";
	return !options && region_is_limited() ? one_arena : options;
}

ssize_t heap_sys_readlink(const char *path, char *out, size_t bytes)
{
	(void)path, (void)out, (void)bytes;
	errno = ENOENT; /* /etc/malloc.conf is the target's */
	return -1;
}

void *heap_sys_sbrk(intptr_t increment)
{
	(void)increment;
	errno = ENOMEM;
	return (void *)-1;
}

/* jemalloc's statistics and sampling want three functions of libm, which would be another library to load. */
double heap_sys_log(double x)
{
	long double result;
	__asm__("fldln2\n\tfldt %1\n\tfyl2x" : "=t"(result) : "m"((long double){x}) : "st(1)");
	return (double)result;
}

double heap_sys_exp(double x)
{
	long double scaled = (long double)x * 1.442695040888963407359924681L; /* log2(e) */
	long long whole = (long long)(scaled < 0 ? scaled - 0.5L : scaled + 0.5L);
	long double fraction = scaled - (long double)whole, power;
	__asm__("f2xm1" : "=t"(power) : "0"(fraction));
	power += 1.0L;
	__asm__("fscale" : "+t"(power) : "u"((long double)whole));
	return (double)power;
}

double heap_sys_round(double x)
{
	double whole = (double)(long long)(x < 0 ? x - 0.5 : x + 0.5);
	return x > 9e15 || x < -9e15 ? x : whole;
}

/* Its own heap profiler is off: the shim knows the call paths. */
int heap_sys_unwind_backtrace(void *callback, void *context)
{
	(void)callback, (void)context;
	return 0;
}

uintptr_t heap_sys_unwind_getip(void *context)
{
	(void)context;
	return 0;
}

void heap_sys_stack_chk_fail(void)
{
	__builtin_trap();
}

int heap_sys_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	(void)prepare, (void)parent, (void)child;
	return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* jemalloc has one key, by which it sees a thread end. It takes its locks then, with the signals that come. */
static void (*thread_destructor)(void *value);

static void thread_ends(void *value)
{
	bool was_inside = inside;
	enter();
	thread_destructor(value);
	if (!was_inside)
		leave();
}

int heap_sys_pthread_key_create(pthread_key_t *key, void (*destructor)(void *value))
{
	thread_destructor = destructor;
	return pthread_key_create(key, thread_ends);
}

int heap_sys_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
	(void)thread, (void)attributes, (void)start, (void)argument;
	return EAGAIN; /* background_thread stays off */
}
