/* jemalloc behind our header. It is set up with the first block that lies here, or never: its constructor is taken out, since most
   small programs have no use for it. What it then calls instead of libc is in heap_sys.c. */
#define _GNU_SOURCE
#include "core/tier/heap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>

#include "core/region/region.h"
#include "core/runtime.h"
#include "core/tier/direct.h"
#include "core/tier/early.h"
#include "core/tier/heap_pages.h"
#include "core/tier/heap_sys.h"
#include "core/tier/jemalloc.h"

/* jemalloc cannot be entered twice by a thread: its caches would be found half changed, its locks taken. A signal handler that
   interrupted it gets pages of its own, and leaves what it frees to be freed afterwards. */
static __thread bool inside;
static __thread _Atomic(struct block *) waiting; /* chained by `birth`: they are dead */

/* SET_UP_BEGUN is by who has the lock: a fork meanwhile would leave the child with jemalloc's. It stays where that cannot be helped,
   in a child made past fork, and if it fails. */
static _Atomic enum { SET_UP_NOT, SET_UP_BEGUN, SET_UP_DONE } set_up_state;
static struct base_lock set_up_lock;

/* jemalloc may be entered. */
static always_inline bool is_ready(void)
{
	return likely(atomic_load_explicit(&set_up_state, memory_order_acquire) == SET_UP_DONE);
}

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
	if (early_holds(block))
		return;
	struct block *head = atomic_load(&waiting);
	do
		block->birth = (uint64_t)head;
	while (!atomic_compare_exchange_weak(&waiting, &head, block));
}

static bool begin_jemalloc(void)
{
	return fa_je_nallocx(1, 0);
}

/* `top` is a multiple of 16. In assembler, so that unwinders find the way back to the other stack. */
bool heap_call_on_stack(bool (*work)(void), void *top);
__asm__(".text\n.globl heap_call_on_stack\n.hidden heap_call_on_stack\n.type heap_call_on_stack, @function\n"
	"heap_call_on_stack:\n.cfi_startproc\nendbr64\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6, -16\n"
	"mov %rsp, %rbp\n.cfi_def_cfa_register 6\nmov %rsi, %rsp\ncall *%rdi\nleave\n.cfi_def_cfa 7, 8\n"
	".cfi_restore 6\nret\n.cfi_endproc\n.size heap_call_on_stack, . - heap_call_on_stack\n");

/* On a stack of its own: the first block here may be a coroutine's, whose stack has no room for the 10 KiB that this takes. */
static bool begin_apart(void)
{
	void *stack = heap_sys_room_stack();
	bool well = stack ? heap_call_on_stack(begin_jemalloc, stack) : begin_jemalloc();
	heap_sys_room_give_back();
	return well;
}

/* Not inside. False: it cannot be entered. Signals are kept out, but where a filter may know no such call: a handler is to find
   itself on the program's stack, which collectors look through, and is not to fork while this waits, nor to jump from here. */
static cold_path bool set_up(void)
{
	int saved = errno;
	heap_begin();
	enter();
	bool shuts = !base_spares_calls();
	uint64_t signals = shuts ? base_shut_signals(BASE_SIGNALS_OF_CODE) : 0;
	if (base_lock(&set_up_lock)) {
		if (set_up_state == SET_UP_NOT) {
			set_up_state = SET_UP_BEGUN;
			if (begin_apart())
				atomic_store_explicit(&set_up_state, SET_UP_DONE, memory_order_release);
		}
		base_unlock(&set_up_lock);
	}
	if (shuts)
		base_let_signals(signals);
	leave();
	errno = saved;
	return is_ready();
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
	void *pointer;
	if (unlikely(!is_ready())) {
		if ((tag & BLOCK_SCOPE) == BLOCK_UNCOUNTED && (pointer = early_alloc(size, align, birth, tag)))
			return pointer;
		if (!set_up())
			return direct_alloc(size, align, birth, tag);
	}
	pointer = unlikely(size >= region.exact_min) ? direct_alloc(size, align, birth, tag) : NULL;
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
	if (unlikely(early_holds(block)))
		return;
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
	if (inside || !is_ready())
		return;
	enter();
	heap_pages_taken(bytes);
	leave();
}

void heap_later(uint64_t now_ns)
{
	if (inside || !atomic_load_explicit(&heap_pages_watched, memory_order_relaxed)) /* so it is set up */
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
	if (unlikely(inside) || unlikely(early_holds(block)))
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
	if (inside || !is_ready())
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
	if (inside || !is_ready())
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
static __thread bool fork_locked, fork_ready; /* what before_fork found */

static void before_fork(void)
{
	if (inside) {
		forks_inside++;
		return;
	}
	enter(); /* until the locks are free again */
	fork_locked = base_lock(&set_up_lock);
	fork_ready = is_ready();
	if (fork_ready)
		je_jemalloc_prefork();
}

static void after_fork(void (*free_locks)(void))
{
	if (fork_ready)
		free_locks();
	if (fork_locked)
		base_unlock(&set_up_lock);
}

static void after_fork_in_parent(void)
{
	if (forks_inside) {
		forks_inside--;
		return;
	}
	after_fork(je_jemalloc_postfork_parent);
	leave();
}

void heap_child(void)
{
	if (is_ready() && (!inside || !__libc_single_threaded))
		je_jemalloc_postfork_child();
}

static void after_fork_in_child(void)
{
	if (forks_inside) {
		forks_inside--;
		heap_child();
		return;
	}
	after_fork(je_jemalloc_postfork_child);
	if (!fork_ready && is_ready()) /* it was set up during the fork: the lock could not be waited for */
		je_jemalloc_postfork_child();
	inside = false; /* what waits to be freed waits on: this process's own accounts are not there yet */
}

/* jemalloc has one key, by which it sees a thread end. It takes its locks then, with the signals that come. */
static void (*thread_destructor)(void *value);
static pthread_key_t thread_key;
static bool has_thread_key;

static void thread_ends(void *value)
{
	bool was_inside = inside;
	enter();
	thread_destructor(value);
	if (!was_inside)
		leave();
}

void heap_begin(void)
{
	static _Atomic bool begun;
	if (atomic_exchange(&begun, true))
		return;
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
	has_thread_key = !pthread_key_create(&thread_key, thread_ends);
	heap_sys_note_machine();
	if (region_is_limited() || heap_sys_has_options() || !heap_sys_room_take())
		heap_set_up();
}

void heap_before_limits(void)
{
	if (region.bytes)
		heap_set_up();
}

bool heap_set_up(void)
{
	return is_ready() || (!inside && set_up());
}

int heap_sys_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	(void)prepare, (void)parent, (void)child;
	return 0; /* heap_begin has seen to it */
}

int heap_sys_pthread_key_create(pthread_key_t *key, void (*destructor)(void *value))
{
	thread_destructor = destructor;
	*key = thread_key;
	return has_thread_key ? 0 : pthread_key_create(key, thread_ends);
}
