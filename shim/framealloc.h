/*
 * framealloc.h: frame, pool and heap memory, tasks, guards and awaits, by the program's own word.
 *
 * One header, no library to link. Under the shim (LD_PRELOAD=libframealloc.so, or fa-run) the calls go to it: blocks come
 * from its tiers and every breach of the discipline is recorded with its call path. Without it the same calls do the
 * same on plain malloc: whatever is freed at the end of a frame, a guard or a task is freed there, and misuse is refused
 * with the same errors. C11 and C++, gcc and clang, Linux with glibc 2.34 or later.
 *
 * The discipline: frame memory belongs to the frame thread and dies with its frame; tasks use pool or heap memory; frame
 * data never crosses an await.
 *
 * Words
 *   frame   one turn of the main loop on one thread, from fa_frame_begin to fa_frame_end
 *   task    work that is done in pieces, on any thread; a piece lies between fa_task_enter and fa_task_leave
 *   guard   owns the pool blocks that are made while it is open, and frees them at its end
 *   owner   the frame, task or guard that will free a block; a block without one is freed by fa_free
 *   await   a place where running code gives its thread away
 *
 * All units of a program share one state, C and C++ alike. Without the shim a plugin that dlopen loads shares it only with a
 * program that exports its symbols (-rdynamic).
 *
 * What these calls give is taken back by these calls: fa_free and fa_realloc, never free and realloc. Blocks are aligned
 * to 16 bytes; a size of 0 gives a block that must not be written. Integer results are 0 or a negative errno value.
 * Every call may be made on any thread at any time; what is said of single objects stands with them.
 */
#ifndef FRAMEALLOC_H
#define FRAMEALLOC_H

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fa_task fa_task;
typedef struct fa_guard fa_guard;

typedef enum fa_tier { FA_FRAME = 0, FA_POOL = 1, FA_HEAP = 2 } fa_tier;
typedef enum fa_role {
	FA_ROLE_NONE = 0,
	FA_ROLE_FRAME = 1,
	FA_ROLE_WORKER = 2,
	FA_ROLE_ASYNC = 3,
	FA_ROLE_IO = 4
} fa_role;

/* Of the blocks that these calls made, in all threads. Bytes are requested ones. */
typedef struct fa_block_stats {
	uint64_t allocs, frees, bytes, live_blocks, live_bytes;
} fa_block_stats;

typedef struct fa_stats_t {
	fa_block_stats
		frame; /* frame memory; what was handed on (fa_transfer, fa_promote, fa_task_release) counts below */
	fa_block_stats other; /* pool and heap memory */
	uint64_t frames; /* begun */
	uint64_t tasks_started, tasks_ended, polls; /* a task starts when it is made; a poll is one fa_task_enter */
	uint64_t misuse; /* calls that the shim reports as FA001, FA701 or FA705 */
} fa_stats_t;

/* What the shim offers: the calls below, each under its own name. */
struct fa_shim {
	uint32_t version; /* 1; 0 stands for no shim */
	uint32_t bytes; /* of this structure */
	void (*frame_begin)(void);
	void (*frame_end)(void);
	void *(*alloc)(fa_tier tier, size_t size);
	void *(*realloc)(void *block, size_t size);
	void (*free)(void *block);
	fa_task *(*task_new)(fa_task *parent, const char *type);
	int (*task_enter)(fa_task *task);
	int (*task_leave)(fa_task *task);
	int (*task_end)(fa_task *task);
	void *(*task_alloc)(fa_task *task, size_t size);
	int (*task_release)(fa_task *task, void *block);
	fa_guard *(*guard_begin)(void);
	int (*guard_end)(fa_guard *guard);
	int (*guard_release)(fa_guard *guard, void *block);
	void (*await_begin)(void);
	void (*await_end)(void);
	int (*transfer)(void *block);
	void *(*promote)(void *block, fa_tier tier);
	int (*tag_push)(const char *name);
	int (*tag_pop)(void);
	int (*thread_role)(fa_role role);
	int (*budget_set)(const char *tag, uint64_t bytes);
	void (*stats)(fa_stats_t *stats);
};

/* Defined at the end of this file: the way to the shim, or to what stands in for it. */
const struct fa_shim *fa_calls_find(void);
extern const struct fa_shim *fa_calls_found;

/* Calls are inlined and marked as artificial, so that a call path begins in the caller's own line. */
#define FA_INLINE static inline __attribute__((__always_inline__, __artificial__, __unused__))

FA_INLINE const struct fa_shim *fa_calls(void)
{
	const struct fa_shim *calls = __atomic_load_n(&fa_calls_found, __ATOMIC_ACQUIRE);
	return __builtin_expect(calls != NULL, 1) ? calls : fa_calls_find();
}

/* True under the shim. */
FA_INLINE bool fa_shimmed(void)
{
	return fa_calls()->version != 0;
}

/* Frames. */

/* A frame of the calling thread begins; begins inside it are part of it. Under the shim the thread gets the role `frame`
   when it has none, frames are no longer looked for automatically, and markers of frames do not count inside it. */
FA_INLINE void fa_frame_begin(void)
{
	fa_calls()->frame_begin();
}

/* Ends it; with it ends what fa_frame_alloc made in it and nobody freed. Without a frame: nothing happens. Freeing such a
   block later is FA601. */
FA_INLINE void fa_frame_end(void)
{
	fa_calls()->frame_end();
}

/* Frame memory, NULL and ENOMEM when there is none. Outside a frame (FA001) the block is a heap block without owner;
   inside a task, or on a thread of role `async`, (FA701) it is a pool block of the task, if there is one. */
FA_INLINE void *fa_frame_alloc(size_t size)
{
	return fa_calls()->alloc(FA_FRAME, size);
}

FA_INLINE void fa_frame_leave_scope(const char *unused)
{
	(void)unused;
	fa_frame_end();
}

/* A frame as long as the C scope, whichever way it is left. */
#define FA_FRAME_SCOPE()                                                                                               \
	__attribute__((__cleanup__(fa_frame_leave_scope), __unused__)) const char FA_NAME(fa_frame_scope_) =           \
		(fa_frame_begin(), 0)
#define FA_NAME(name) FA_NAME_AT(name, __LINE__)
#define FA_NAME_AT(name, line) FA_NAME_JOIN(name, line)
#define FA_NAME_JOIN(name, line) name##line

/* Pool and heap. */

/* Pool memory, NULL and ENOMEM. Its owner is the innermost guard that is open in the task that runs, or else on the
   thread; without a guard it has none. */
FA_INLINE void *fa_pool_alloc(size_t size)
{
	return fa_calls()->alloc(FA_POOL, size);
}

/* Heap memory without owner, NULL and ENOMEM. */
FA_INLINE void *fa_heap_alloc(size_t size)
{
	return fa_calls()->alloc(FA_HEAP, size);
}

/* The block with another size, in its tier and with its owner; it may move. NULL: a heap block. On failure (NULL and
   ENOMEM) the old block stays. A block that is none: NULL and EINVAL. */
FA_INLINE void *fa_realloc(void *block, size_t size)
{
	return fa_calls()->realloc(block, size);
}

/* Frees a block, also one that has an owner; a guard's is FA705. NULL: nothing happens. */
FA_INLINE void fa_free(void *block)
{
	fa_calls()->free(block);
}

/* Tasks. */

/* A task; `type` (may be NULL) names its kind in reports. NULL and ENOMEM. */
FA_INLINE fa_task *fa_task_new(const char *type)
{
	return fa_calls()->task_new(NULL, type);
}

/* The same as part of `parent`, which ends it at its own end at the latest. NULL and EINVAL: that has ended. */
FA_INLINE fa_task *fa_task_new_child(fa_task *parent, const char *type)
{
	return fa_calls()->task_new(parent, type);
}

/* A piece of the task's work begins on the calling thread: a poll. -EBUSY: the task runs already; -EINVAL: no task.
   Tasks nest on a thread and are left in reverse order. */
FA_INLINE int fa_task_enter(fa_task *task)
{
	return fa_calls()->task_enter(task);
}

/* It ends: the await, or the end of the work. Tasks that were entered inside it and not left are left. -EINVAL: the task
   does not run on this thread. */
FA_INLINE int fa_task_leave(fa_task *task)
{
	return fa_calls()->task_leave(task);
}

/* The task is over: leaves it if it is entered here, ends its children and open guards, frees every block it owns.
   -EBUSY: it, or a child, runs on another thread; -EINVAL: no task. What the task's polls made by other means and left
   alive is FA704. */
FA_INLINE int fa_task_end(fa_task *task)
{
	return fa_calls()->task_end(task);
}

/* Pool memory that the task owns. NULL and ENOMEM; NULL and EINVAL: no task. */
FA_INLINE void *fa_task_alloc(fa_task *task, size_t size)
{
	return fa_calls()->task_alloc(task, size);
}

/* Hands a block that the task owns on: the caller frees it. -EINVAL, and FA705: the task does not own it (any more). */
FA_INLINE int fa_task_release(fa_task *task, void *block)
{
	return fa_calls()->task_release(task, block);
}

/* Guards. */

/* Owns the pool blocks that are made from now on in the present task, or else on this thread. NULL and ENOMEM. */
FA_INLINE fa_guard *fa_guard_begin(void)
{
	return fa_calls()->guard_begin();
}

/* Frees what the guard owns; one of a task wherever it is called, one of a thread on that. -EINVAL, and FA705: guards
   inside it were open (they end first), or it is not open (any more), or not here. NULL: nothing happens. */
FA_INLINE int fa_guard_end(fa_guard *guard)
{
	return guard ? fa_calls()->guard_end(guard) : 0;
}

/* As fa_task_release. */
FA_INLINE int fa_guard_release(fa_guard *guard, void *block)
{
	return fa_calls()->guard_release(guard, block);
}

FA_INLINE void fa_guard_leave_scope(fa_guard **guard)
{
	(void)fa_guard_end(*guard);
}

/* A guard as long as the C scope, whichever way it is left: FA_POOL_GUARD(name); */
#define FA_POOL_GUARD(name)                                                                                            \
	__attribute__((__cleanup__(fa_guard_leave_scope), __unused__)) fa_guard *name = fa_guard_begin()

/* Awaits, hand-overs, the rest. */

/* Around code that gives the thread away: blocks, yields, runs an event loop. What is allocated in between is not the
   frame's that was open; a frame may begin and end in between. They nest, inside a task and outside of one. */
FA_INLINE void fa_await_begin(void)
{
	fa_calls()->await_begin();
}
FA_INLINE void fa_await_end(void)
{
	fa_calls()->await_end();
}

FA_INLINE void fa_await_leave_scope(const char *unused)
{
	(void)unused;
	fa_await_end();
}

/* The value of an expression that awaits; it may have none. The await ends whichever way the expression is left. */
#define FA_AWAIT(expression) FA_AWAIT_AS(FA_NAME_JOIN(fa_await_, __COUNTER__), expression)
#define FA_AWAIT_AS(name, expression) FA_AWAIT_NAMED(name, expression)
#define FA_AWAIT_NAMED(name, expression)                                                                               \
	__extension__({                                                                                                \
		__attribute__((__cleanup__(fa_await_leave_scope), __unused__)) const char name =                       \
			(fa_await_begin(), 0);                                                                         \
		(expression);                                                                                          \
	})

/* The block goes to another thread, which frees it: no frame, guard or task owns it from now on. -EINVAL: no block. */
FA_INLINE int fa_transfer(void *block)
{
	return fa_calls()->transfer(block);
}

/* Moves a block to pool or heap, out of its frame, guard or task; returns its new address, the caller's to free. On
   failure (NULL and ENOMEM, or EINVAL: no block, or neither pool nor heap) the old block stays. */
FA_INLINE void *fa_promote(void *block, fa_tier tier)
{
	return fa_calls()->promote(block, tier);
}

/* What the thread allocates belongs to the region `name` until fa_tag_pop. -EINVAL: no name; -EOVERFLOW: deeper than 64;
   -ENOSPC: more than 63 names. */
FA_INLINE int fa_tag_push(const char *name)
{
	return fa_calls()->tag_push(name);
}
/* -EINVAL: nothing was pushed. */
FA_INLINE int fa_tag_pop(void)
{
	return fa_calls()->tag_pop();
}

/* What the calling thread is for. -EINVAL: no role. */
FA_INLINE int fa_thread_role(fa_role role)
{
	return fa_calls()->thread_role(role);
}

/* FA301 when a frame allocates more than `bytes`, in the region `tag` or (NULL) in all; 0: no budget. -EINVAL:
   a name without letters; -ENOSPC as above. */
FA_INLINE int fa_budget_set(const char *tag, uint64_t bytes)
{
	return fa_calls()->budget_set(tag, bytes);
}

/* Figures of the moment. Under the shim those of tasks and polls begin anew in the child of a fork. */
FA_INLINE void fa_stats(fa_stats_t *stats)
{
	fa_calls()->stats(stats);
}

/* Vectors. */

/* A growable array of equal elements in one tier. Not thread-safe; `data` moves when it grows. */
typedef struct fa_vec {
	void *data;
	size_t count, capacity, element; /* elements; bytes of one */
	fa_tier tier;
	fa_task *task; /* that owns it; NULL: none */
} fa_vec;

FA_INLINE fa_vec fa_vec_in(fa_tier tier, fa_task *task, size_t element)
{
	fa_vec vec = {NULL, 0, 0, element ? element : 1, tier, task};
	return vec;
}
FA_INLINE fa_vec fa_frame_vec(size_t element)
{
	return fa_vec_in(FA_FRAME, NULL, element);
}
FA_INLINE fa_vec fa_pool_vec(size_t element)
{
	return fa_vec_in(FA_POOL, NULL, element);
}
FA_INLINE fa_vec fa_heap_vec(size_t element)
{
	return fa_vec_in(FA_HEAP, NULL, element);
}
FA_INLINE fa_vec fa_task_vec(fa_task *task, size_t element)
{
	return fa_vec_in(FA_POOL, task, element);
}

/* Room for `capacity` elements. -ENOMEM: also when their bytes exceed what a size can say; the vector stays as it is. */
FA_INLINE int fa_vec_reserve(fa_vec *vec, size_t capacity)
{
	size_t bytes;
	if (capacity <= vec->capacity)
		return 0;
	if (__builtin_mul_overflow(capacity, vec->element, &bytes) || bytes > PTRDIFF_MAX)
		return -ENOMEM;
	void *data = vec->data   ? fa_realloc(vec->data, bytes)
		     : vec->task ? fa_task_alloc(vec->task, bytes)
				 : fa_calls()->alloc(vec->tier, bytes);
	if (!data)
		return -ENOMEM;
	vec->data = data;
	vec->capacity = capacity;
	return 0;
}

/* Copies `count` elements, which may be the vector's own, behind the last. -ENOMEM as above. */
FA_INLINE int fa_vec_append(fa_vec *vec, const void *elements, size_t count)
{
	size_t wanted, from = (uintptr_t)elements - (uintptr_t)vec->data;
	bool own = vec->data && from < vec->count * vec->element; /* they move with the vector */
	if (__builtin_add_overflow(vec->count, count, &wanted))
		return -ENOMEM;
	if (wanted > vec->capacity) {
		size_t doubled = vec->capacity <= SIZE_MAX / 2 ? vec->capacity * 2 : wanted;
		size_t capacity = doubled < 8 ? 8 : doubled;
		int error = fa_vec_reserve(vec, capacity < wanted ? wanted : capacity);
		if (error)
			return error;
	}
	if (own)
		elements = (char *)vec->data + from;
	if (count)
		memcpy((char *)vec->data + vec->count * vec->element, elements, count * vec->element);
	vec->count = wanted;
	return 0;
}

FA_INLINE int fa_vec_push(fa_vec *vec, const void *element)
{
	return fa_vec_append(vec, element, 1);
}

/* The element's address; NULL beyond the last. */
FA_INLINE void *fa_vec_at(const fa_vec *vec, size_t index)
{
	return index < vec->count ? (char *)vec->data + index * vec->element : NULL;
}

/* No elements; the room is kept. */
FA_INLINE void fa_vec_clear(fa_vec *vec)
{
	vec->count = 0;
}

/* Also where a guard owns the array: to free a vector is no mistake. */
FA_INLINE void fa_vec_free(fa_vec *vec)
{
	if (vec->data && vec->tier == FA_POOL)
		(void)fa_transfer(vec->data);
	fa_free(vec->data);
	vec->data = NULL;
	vec->count = vec->capacity = 0;
}

/* Hands the array out: the caller frees it with fa_free, no task owns it, and the vector is empty. NULL when it was empty.
   A frame's array stays the frame's; a guard's is handed out by fa_guard_release before. */
FA_INLINE void *fa_vec_take(fa_vec *vec)
{
	void *data = vec->data;
	if (data && vec->task)
		(void)fa_task_release(vec->task, data);
	vec->data = NULL;
	vec->count = vec->capacity = 0;
	return data;
}

#ifndef FA_NO_PLAIN /* the shim itself: declarations only */

/* Without the shim. */

/*
 * The same on malloc. Each block has a prefix that says who owns it; one lock guards the lists. Definitions are weak: all
 * units of a program share the first.
 */
#define FA_PLAIN __attribute__((__weak__))
#define FA_PLAIN_LIVE 0xfa110c8du

struct fa_plain_owner {
	struct fa_plain_block *newest;
	bool is_guard;
};

struct fa_plain_block {
	struct fa_plain_block *older, *newer;
	struct fa_plain_owner *owner;
	size_t size;
	uint32_t live; /* FA_PLAIN_LIVE */
	fa_tier tier; /* that stands for the figures: FA_FRAME or another */
	uint64_t reserved;
};

struct fa_guard {
	struct fa_plain_owner owner;
	struct fa_guard *outer; /* of a spare one: the next */
	struct fa_task *task; /* that it was opened in; NULL: in none */
	struct fa_guard **list; /* of that task or else the thread; NULL: not open */
};

struct fa_plain_thread {
	unsigned frames, awaits, tags;
	unsigned paused_by; /* the await, counted from 1, that keeps the open frame waiting; 0: none */
	fa_role role;
	struct fa_plain_owner frame;
	struct fa_guard *guards;
	struct fa_task *task; /* innermost that runs */
	bool noted; /* its end is seen */
	bool forks; /* and has the lock meanwhile */
};

struct fa_task {
	struct fa_plain_owner owned;
	struct fa_guard *guards;
	struct fa_task *outer, *parent, *children, *elder, *younger; /* outer: of a spare one, the next */
	struct fa_plain_thread *runs_on;
	bool ended;
};

struct fa_plain_shared {
	int lock;
	struct fa_guard *spare_guards; /* never given back, so that an ended one is known as such */
	struct fa_task *spare_tasks; /* nor are these */
	fa_stats_t stats;
	uint32_t tag_count;
	char tag[64][64];
};

extern int __cxa_thread_atexit_impl(void (*ends)(void *object), void *object, void *module); /* glibc */
extern void *__dso_handle __attribute__((__visibility__("hidden")));
extern struct fa_plain_shared fa_plain_shared;
extern __thread struct fa_plain_thread fa_plain_thread;
extern struct fa_shim fa_plain_calls;
FA_PLAIN struct fa_plain_shared fa_plain_shared;
FA_PLAIN __thread struct fa_plain_thread fa_plain_thread;
FA_PLAIN const struct fa_shim *fa_calls_found;

/* The `turn`-th time in a row, from 0, that a thread finds the lock taken: soon it sleeps, since one of real-time priority would
   keep the one that has it from running. By the system call itself: no cancellation point, and errno is preserved. */
static inline __attribute__((__unused__)) void fa_plain_wait(unsigned turn)
{
	struct {
		long seconds, nanoseconds;
	} length = {0, 50000};
	long nanosleep = 35;
	if (turn < 64)
		__builtin_ia32_pause();
	else
		__asm__ volatile("syscall" : "+a"(nanosleep) : "D"(&length), "S"(0L) : "rcx", "r11", "memory");
}
/* Between the handlers of a fork the thread has it: those of others may use the API. */
static inline __attribute__((__unused__)) void fa_plain_lock(void)
{
	for (unsigned turn = 0;
	     !fa_plain_thread.forks && __atomic_exchange_n(&fa_plain_shared.lock, 1, __ATOMIC_ACQUIRE); turn++)
		fa_plain_wait(turn);
}
static inline __attribute__((__unused__)) void fa_plain_unlock(void)
{
	if (!fa_plain_thread.forks)
		__atomic_store_n(&fa_plain_shared.lock, 0, __ATOMIC_RELEASE);
}
/* No other thread has the lock while the process forks: in the child it would stay taken, with half of a list done. Unless it
   is the interrupted thread's own, in whose handler the fork is. */
FA_PLAIN void fa_plain_before_fork(void)
{
	for (unsigned turn = 0; turn < 1000 && !fa_plain_thread.forks; turn++) {
		fa_plain_thread.forks = !__atomic_exchange_n(&fa_plain_shared.lock, 1, __ATOMIC_ACQUIRE);
		if (!fa_plain_thread.forks)
			fa_plain_wait(turn);
	}
}
FA_PLAIN void fa_plain_after_fork(void)
{
	if (fa_plain_thread.forks) {
		fa_plain_thread.forks = false;
		fa_plain_unlock();
	}
}
FA_PLAIN void fa_plain_init(void)
{
	(void)pthread_atfork(fa_plain_before_fork, fa_plain_after_fork, fa_plain_after_fork);
}
static inline __attribute__((__unused__)) void fa_plain_add(uint64_t *figure, uint64_t n)
{
	__atomic_fetch_add(figure, n, __ATOMIC_RELAXED);
}
static inline __attribute__((__unused__)) int fa_plain_misused(void)
{
	fa_plain_add(&fa_plain_shared.stats.misuse, 1);
	return -EINVAL;
}
static inline __attribute__((__unused__)) struct fa_plain_block *fa_plain_block_of(void *pointer)
{
	struct fa_plain_block *block = pointer ? (struct fa_plain_block *)pointer - 1 : NULL;
	return block && block->live == FA_PLAIN_LIVE ? block : NULL;
}
/* Not simply stored: it is read again when the block is freed twice, which no compiler expects. */
static inline __attribute__((__unused__)) void fa_plain_give_back(struct fa_plain_block *block)
{
	*(volatile uint32_t *)&block->live = 0;
	free(block);
}
static inline __attribute__((__unused__)) fa_block_stats *fa_plain_figures(fa_tier tier)
{
	return tier == FA_FRAME ? &fa_plain_shared.stats.frame : &fa_plain_shared.stats.other;
}
static inline __attribute__((__unused__)) void fa_plain_count_free(const struct fa_plain_block *block)
{
	fa_plain_add(&fa_plain_figures(block->tier)->frees, 1);
	fa_plain_add(&fa_plain_figures(block->tier)->live_bytes, 0 - (uint64_t)block->size);
}
static inline __attribute__((__unused__)) void fa_plain_count_alloc(const struct fa_plain_block *block)
{
	fa_plain_add(&fa_plain_figures(block->tier)->allocs, 1);
	fa_plain_add(&fa_plain_figures(block->tier)->bytes, block->size);
	fa_plain_add(&fa_plain_figures(block->tier)->live_bytes, block->size);
}

/* The lock is held. */
static inline __attribute__((__unused__)) void fa_plain_give(struct fa_plain_owner *owner, struct fa_plain_block *block)
{
	block->owner = owner;
	block->newer = NULL;
	block->older = owner ? owner->newest : NULL;
	if (!owner)
		return;
	if (block->older)
		block->older->newer = block;
	owner->newest = block;
}
static inline __attribute__((__unused__)) void fa_plain_take(struct fa_plain_block *block)
{
	if (!block->owner)
		return;
	if (block->newer)
		block->newer->older = block->older;
	else
		block->owner->newest = block->older;
	if (block->older)
		block->older->newer = block->newer;
	block->owner = NULL;
}

FA_PLAIN void *fa_plain_make(fa_tier tier, size_t size, struct fa_plain_owner *owner)
{
	struct fa_plain_block *block = NULL;
	if (size <= PTRDIFF_MAX - sizeof *block)
		block = (struct fa_plain_block *)malloc(sizeof *block + size);
	if (!block) {
		errno = ENOMEM;
		return NULL;
	}
	block->size = size;
	block->tier = tier;
	block->live = FA_PLAIN_LIVE;
	fa_plain_count_alloc(block);
	fa_plain_lock();
	fa_plain_give(owner, block);
	fa_plain_unlock();
	return block + 1;
}

FA_PLAIN void fa_plain_end(struct fa_plain_owner *owner)
{
	for (;;) {
		fa_plain_lock();
		struct fa_plain_block *block = owner->newest;
		if (block)
			fa_plain_take(block);
		fa_plain_unlock();
		if (!block)
			return;
		fa_plain_count_free(block);
		fa_plain_give_back(block);
	}
}

/* What a thread that ends leaves open ends, but what it owns lives on: others may use it. */
FA_PLAIN void fa_plain_leave_all(struct fa_plain_owner *owner)
{
	while (owner->newest)
		fa_plain_take(owner->newest);
}

FA_PLAIN void fa_plain_spare_guard(struct fa_guard *guard)
{
	guard->outer = fa_plain_shared.spare_guards;
	fa_plain_shared.spare_guards = guard;
}

FA_PLAIN void fa_plain_thread_ends(void *ended)
{
	struct fa_plain_thread *thread = (struct fa_plain_thread *)ended;
	fa_plain_lock();
	fa_plain_leave_all(&thread->frame);
	for (struct fa_guard *guard = thread->guards, *outer; guard; guard = outer) {
		outer = guard->outer;
		fa_plain_leave_all(&guard->owner);
		guard->list = NULL;
		fa_plain_spare_guard(guard);
	}
	for (struct fa_task *task = thread->task, *outer; task; task = outer) {
		outer = task->outer;
		task->outer = NULL;
		__atomic_store_n(&task->runs_on, NULL, __ATOMIC_RELEASE);
	}
	fa_plain_unlock();
	memset(thread, 0, sizeof *thread);
}

/* The thread has something open from now on. Its end is told as to a C++ object of the thread, which keeps this module loaded. */
FA_PLAIN void fa_plain_note_thread(void)
{
	if (!fa_plain_thread.noted)
		fa_plain_thread.noted =
			!__cxa_thread_atexit_impl(fa_plain_thread_ends, &fa_plain_thread, &__dso_handle);
}

FA_PLAIN void fa_plain_frame_begin(void)
{
	if (fa_plain_thread.frames++)
		return;
	fa_plain_note_thread();
	fa_plain_thread.paused_by = 0;
	fa_plain_add(&fa_plain_shared.stats.frames, 1);
	if (fa_plain_thread.role == FA_ROLE_NONE)
		fa_plain_thread.role = FA_ROLE_FRAME;
}

FA_PLAIN void fa_plain_frame_end(void)
{
	if (!fa_plain_thread.frames || --fa_plain_thread.frames)
		return;
	fa_plain_thread.paused_by = 0;
	fa_plain_end(&fa_plain_thread.frame);
}

FA_PLAIN struct fa_guard **fa_plain_guards(void)
{
	return fa_plain_thread.task ? &fa_plain_thread.task->guards : &fa_plain_thread.guards;
}

FA_PLAIN void *fa_plain_alloc(fa_tier tier, size_t size)
{
	struct fa_task *task = fa_plain_thread.task;
	if (tier == FA_POOL) {
		void *made = fa_plain_make(FA_POOL, size, NULL);
		fa_plain_lock();
		struct fa_guard *guard = *fa_plain_guards();
		if (made && guard)
			fa_plain_give(&guard->owner, fa_plain_block_of(made));
		fa_plain_unlock();
		return made;
	}
	if (tier != FA_FRAME)
		return fa_plain_make(FA_HEAP, size, NULL);
	bool in_frame = fa_plain_thread.frames && !fa_plain_thread.paused_by;
	void *block = fa_plain_make(FA_FRAME, size, task ? &task->owned : in_frame ? &fa_plain_thread.frame : NULL);
	if (block && (task || fa_plain_thread.role == FA_ROLE_ASYNC || !in_frame))
		fa_plain_misused();
	return block;
}

FA_PLAIN void fa_plain_free(void *pointer)
{
	struct fa_plain_block *block = fa_plain_block_of(pointer);
	if (!block)
		return;
	if (block->owner && block->owner->is_guard)
		fa_plain_misused();
	fa_plain_lock();
	fa_plain_take(block);
	fa_plain_unlock();
	fa_plain_count_free(block);
	fa_plain_give_back(block);
}

/* A death and a birth, as under the shim. */
FA_PLAIN void *fa_plain_realloc(void *pointer, size_t size)
{
	if (!pointer)
		return fa_plain_alloc(FA_HEAP, size);
	struct fa_plain_block *block = fa_plain_block_of(pointer);
	if (!block) {
		errno = EINVAL;
		return NULL;
	}
	void *moved = fa_plain_make(block->tier, size, block->owner);
	if (!moved)
		return NULL;
	memcpy(moved, pointer, block->size < size ? block->size : size);
	fa_plain_lock();
	fa_plain_take(block);
	fa_plain_unlock();
	fa_plain_count_free(block);
	fa_plain_give_back(block);
	return moved;
}

static inline __attribute__((__unused__)) bool fa_plain_has_ended(const fa_task *task)
{
	return __atomic_load_n(&task->ended, __ATOMIC_ACQUIRE);
}

/* The lock is held. */
FA_PLAIN void fa_plain_join_family(fa_task *task, fa_task *parent)
{
	task->parent = parent;
	task->younger = parent->children;
	if (task->younger)
		task->younger->elder = task;
	parent->children = task;
}

FA_PLAIN fa_task *fa_plain_task_new(fa_task *parent, const char *type)
{
	fa_task *fresh = (fa_task *)calloc(1, sizeof *fresh), *task = NULL;
	(void)type;
	if (!fresh) {
		errno = ENOMEM;
		return NULL;
	}
	fa_plain_lock();
	if (!parent || !fa_plain_has_ended(parent)) {
		task = fa_plain_shared.spare_tasks ? fa_plain_shared.spare_tasks : fresh;
		if (task != fresh)
			fa_plain_shared.spare_tasks = task->outer;
		task->outer = NULL;
		__atomic_store_n(&task->ended, false, __ATOMIC_RELEASE);
		if (parent)
			fa_plain_join_family(task, parent);
	}
	fa_plain_unlock();
	if (task != fresh)
		free(fresh);
	if (task)
		fa_plain_add(&fa_plain_shared.stats.tasks_started, 1);
	else
		errno = EINVAL;
	return task;
}

FA_PLAIN void fa_plain_leave(void)
{
	fa_task *task = fa_plain_thread.task;
	fa_plain_thread.task = task->outer;
	task->outer = NULL;
	__atomic_store_n(&task->runs_on, NULL, __ATOMIC_RELEASE);
}

FA_PLAIN int fa_plain_enter(fa_task *task)
{
	struct fa_plain_thread *nobody = NULL;
	if (fa_plain_has_ended(task))
		return -EINVAL;
	if (!__atomic_compare_exchange_n(&task->runs_on, &nobody, &fa_plain_thread, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return -EBUSY;
	if (fa_plain_has_ended(task)) { /* by another thread, meanwhile */
		__atomic_store_n(&task->runs_on, NULL, __ATOMIC_RELEASE);
		return -EINVAL;
	}
	fa_plain_note_thread();
	task->outer = fa_plain_thread.task;
	fa_plain_thread.task = task;
	return 0;
}

FA_PLAIN int fa_plain_task_enter(fa_task *task)
{
	int error = task ? fa_plain_enter(task) : -EINVAL;
	if (!error)
		fa_plain_add(&fa_plain_shared.stats.polls, 1);
	return error;
}

FA_PLAIN bool fa_plain_runs_here(const fa_task *task)
{
	for (const fa_task *inner = fa_plain_thread.task; inner; inner = inner->outer)
		if (inner == task)
			return true;
	return false;
}

FA_PLAIN int fa_plain_task_leave(fa_task *task)
{
	if (!task || !fa_plain_runs_here(task))
		return -EINVAL;
	while (fa_plain_thread.task != task)
		fa_plain_leave();
	fa_plain_leave();
	return 0;
}

/* Takes the innermost guards off their list, up to `last` (NULL: all), and ends them. False: `last` is not the innermost, or not
   on the list at all: then none ends. */
FA_PLAIN bool fa_plain_guards_end(struct fa_guard **list, const struct fa_guard *last)
{
	fa_plain_lock();
	struct fa_guard *taken = *list, *open = taken;
	while (open && open != last)
		open = open->outer;
	struct fa_guard *rest = open ? open->outer : NULL;
	if (last && !open)
		taken = NULL;
	else
		*list = rest;
	for (struct fa_guard *guard = taken; taken && guard != rest; guard = guard->outer)
		guard->list = NULL;
	fa_plain_unlock();
	bool in_order = taken == last;
	while (taken && taken != rest) {
		struct fa_guard *outer = taken->outer;
		fa_plain_end(&taken->owner);
		fa_plain_lock();
		fa_plain_spare_guard(taken);
		fa_plain_unlock();
		taken = outer;
	}
	return in_order;
}

/* Neither the task nor a child of it runs on another thread. The lock is held. */
FA_PLAIN bool fa_plain_is_ours(const fa_task *task)
{
	if (__atomic_load_n(&task->runs_on, __ATOMIC_ACQUIRE) && !fa_plain_runs_here(task))
		return false;
	for (const fa_task *child = task->children; child; child = child->younger)
		if (!fa_plain_is_ours(child))
			return false;
	return true;
}

/* So that the task runs here, innermost. */
FA_PLAIN int fa_plain_enter_to_end(fa_task *task)
{
	if (!fa_plain_runs_here(task))
		return fa_plain_enter(task);
	while (fa_plain_thread.task != task)
		fa_plain_leave();
	return 0;
}

FA_PLAIN int fa_plain_end_running(fa_task *task);

/* Where it cannot be ended it is left again, if it was entered for that. */
FA_PLAIN int fa_plain_end_or_leave(fa_task *task, bool was_here)
{
	int error = fa_plain_end_running(task);
	if (error && !was_here)
		(void)fa_plain_task_leave(task);
	return error;
}

/* The last of the task's children ends. 1: it has none. One that is in the family while the lock is held has not ended. */
FA_PLAIN int fa_plain_end_child(fa_task *task)
{
	fa_plain_lock();
	fa_task *child = task->children;
	bool here = child && fa_plain_runs_here(child);
	int error = child ? fa_plain_enter_to_end(child) : 1;
	fa_plain_unlock();
	return error ? error : fa_plain_end_or_leave(child, here);
}

/* Ends a task that runs here, if its children can be ended. Those that were entered around it leave it. */
FA_PLAIN int fa_plain_end_running(fa_task *task)
{
	int error;
	while (!(error = fa_plain_end_child(task)))
		;
	if (error < 0 || fa_plain_enter_to_end(task))
		return -EBUSY;
	fa_plain_guards_end(&task->guards, NULL);
	fa_plain_end(&task->owned);
	fa_plain_lock(); /* out of the family while it is held: who looks at it then finds it running, or not at all */
	if (task->elder)
		task->elder->younger = task->younger;
	else if (task->parent)
		task->parent->children = task->younger;
	if (task->younger)
		task->younger->elder = task->elder;
	task->parent = task->elder = task->younger = NULL;
	__atomic_store_n(&task->ended, true, __ATOMIC_RELEASE);
	fa_plain_leave();
	task->outer = fa_plain_shared.spare_tasks;
	fa_plain_shared.spare_tasks = task;
	fa_plain_unlock();
	fa_plain_add(&fa_plain_shared.stats.tasks_ended, 1);
	return 0;
}

FA_PLAIN int fa_plain_task_end(fa_task *task)
{
	if (!task)
		return -EINVAL;
	fa_plain_lock();
	bool known = !fa_plain_has_ended(task), ours = known && fa_plain_is_ours(task), here = fa_plain_runs_here(task);
	int error = !known ? -EINVAL : ours ? fa_plain_enter_to_end(task) : -EBUSY;
	fa_plain_unlock();
	return error ? error : fa_plain_end_or_leave(task, here);
}

FA_PLAIN void *fa_plain_task_alloc(fa_task *task, size_t size)
{
	if (!task || fa_plain_has_ended(task)) {
		errno = EINVAL;
		return NULL;
	}
	return fa_plain_make(FA_POOL, size, &task->owned);
}

/* What leaves its owner is frame memory no longer. */
FA_PLAIN void fa_plain_leave_frame(struct fa_plain_block *block)
{
	if (block->tier != FA_FRAME)
		return;
	fa_plain_count_free(block);
	block->tier = FA_POOL;
	fa_plain_count_alloc(block);
}

FA_PLAIN int fa_plain_hand_out(struct fa_plain_owner *owner, void *pointer)
{
	struct fa_plain_block *block = fa_plain_block_of(pointer);
	if (!pointer)
		return -EINVAL;
	fa_plain_lock();
	bool owned = block && block->owner == owner;
	if (owned)
		fa_plain_take(block);
	fa_plain_unlock();
	if (!owned)
		return fa_plain_misused();
	fa_plain_leave_frame(block);
	return 0;
}

FA_PLAIN int fa_plain_task_release(fa_task *task, void *pointer)
{
	return task ? fa_plain_hand_out(&task->owned, pointer) : -EINVAL;
}

FA_PLAIN fa_guard *fa_plain_guard_begin(void)
{
	fa_plain_lock();
	fa_guard *guard = fa_plain_shared.spare_guards;
	if (guard)
		fa_plain_shared.spare_guards = guard->outer;
	fa_plain_unlock();
	if (!guard)
		guard = (fa_guard *)calloc(1, sizeof *guard);
	if (!guard) {
		errno = ENOMEM;
		return NULL;
	}
	fa_plain_note_thread();
	fa_plain_lock();
	guard->owner.is_guard = true;
	guard->task = fa_plain_thread.task;
	guard->list = fa_plain_guards();
	guard->outer = *guard->list;
	*guard->list = guard;
	fa_plain_unlock();
	return guard;
}

FA_PLAIN int fa_plain_guard_end(fa_guard *guard)
{
	fa_plain_lock();
	bool is_here = guard->list && (guard->task || guard->list == &fa_plain_thread.guards);
	struct fa_guard **list = guard->list;
	fa_plain_unlock();
	return is_here && fa_plain_guards_end(list, guard) ? 0 : fa_plain_misused();
}

FA_PLAIN int fa_plain_guard_release(fa_guard *guard, void *pointer)
{
	return guard ? fa_plain_hand_out(&guard->owner, pointer) : -EINVAL;
}

FA_PLAIN void fa_plain_await_begin(void)
{
	if (fa_plain_thread.task)
		return;
	fa_plain_thread.awaits++;
	if (fa_plain_thread.frames && !fa_plain_thread.paused_by)
		fa_plain_thread.paused_by = fa_plain_thread.awaits;
}

FA_PLAIN void fa_plain_await_end(void)
{
	if (fa_plain_thread.task || !fa_plain_thread.awaits)
		return;
	if (fa_plain_thread.paused_by == fa_plain_thread.awaits--)
		fa_plain_thread.paused_by = 0;
}

FA_PLAIN int fa_plain_transfer(void *pointer)
{
	struct fa_plain_block *block = fa_plain_block_of(pointer);
	if (!block)
		return -EINVAL;
	fa_plain_lock();
	fa_plain_take(block);
	fa_plain_unlock();
	fa_plain_leave_frame(block);
	return 0;
}

FA_PLAIN void *fa_plain_promote(void *pointer, fa_tier tier)
{
	struct fa_plain_block *block = fa_plain_block_of(pointer);
	if (!block || (tier != FA_POOL && tier != FA_HEAP)) {
		errno = EINVAL;
		return NULL;
	}
	void *moved = fa_plain_make(tier, block->size, NULL);
	if (!moved)
		return NULL;
	memcpy(moved, pointer, block->size);
	fa_plain_lock();
	fa_plain_take(block);
	fa_plain_unlock();
	fa_plain_free(pointer);
	return moved;
}

FA_PLAIN int fa_plain_tag_named(const char *name)
{
	struct fa_plain_shared *shared = &fa_plain_shared;
	int error = 0;
	uint32_t at = 0;
	if (!name || !name[0])
		return -EINVAL;
	fa_plain_lock();
	while (at < shared->tag_count && strncmp(shared->tag[at], name, sizeof shared->tag[at] - 1) != 0)
		at++;
	if (at == 63)
		error = -ENOSPC;
	else if (at == shared->tag_count)
		strncpy(shared->tag[shared->tag_count++], name, sizeof shared->tag[at] - 1);
	fa_plain_unlock();
	return error;
}

FA_PLAIN int fa_plain_tag_push(const char *name)
{
	int error = fa_plain_tag_named(name);
	if (!error && fa_plain_thread.tags == 64)
		error = -EOVERFLOW;
	fa_plain_thread.tags += !error;
	return error;
}

FA_PLAIN int fa_plain_tag_pop(void)
{
	if (!fa_plain_thread.tags)
		return -EINVAL;
	fa_plain_thread.tags--;
	return 0;
}

FA_PLAIN int fa_plain_thread_role(fa_role role)
{
	if ((unsigned)role > FA_ROLE_IO)
		return -EINVAL;
	fa_plain_thread.role = role;
	return 0;
}

FA_PLAIN int fa_plain_budget_set(const char *tag, uint64_t bytes)
{
	(void)bytes;
	return tag ? fa_plain_tag_named(tag) : 0;
}

FA_PLAIN void fa_plain_stats(fa_stats_t *stats)
{
	const uint64_t *figure = (const uint64_t *)&fa_plain_shared.stats;
	for (size_t i = 0; i < sizeof *stats / sizeof *figure; i++)
		((uint64_t *)stats)[i] = __atomic_load_n(&figure[i], __ATOMIC_RELAXED);
	stats->frame.live_blocks = stats->frame.allocs - stats->frame.frees;
	stats->other.live_blocks = stats->other.allocs - stats->other.frees;
}

FA_PLAIN struct fa_shim fa_plain_calls = {
	0,
	sizeof(struct fa_shim),
	fa_plain_frame_begin,
	fa_plain_frame_end,
	fa_plain_alloc,
	fa_plain_realloc,
	fa_plain_free,
	fa_plain_task_new,
	fa_plain_task_enter,
	fa_plain_task_leave,
	fa_plain_task_end,
	fa_plain_task_alloc,
	fa_plain_task_release,
	fa_plain_guard_begin,
	fa_plain_guard_end,
	fa_plain_guard_release,
	fa_plain_await_begin,
	fa_plain_await_end,
	fa_plain_transfer,
	fa_plain_promote,
	fa_plain_tag_push,
	fa_plain_tag_pop,
	fa_plain_thread_role,
	fa_plain_budget_set,
	fa_plain_stats,
};

FA_PLAIN const struct fa_shim *fa_calls_find(void)
{
	const struct fa_shim *(*offered)(void) = NULL, *calls = NULL;
	void *symbol = dlsym((void *)0 /* RTLD_DEFAULT */, "fa_shim_v1");
	memcpy(&offered, &symbol, sizeof offered);
	if (offered)
		calls = offered();
	if (!calls || calls->bytes < sizeof *calls) {
		static pthread_once_t once = PTHREAD_ONCE_INIT;
		calls = &fa_plain_calls;
		pthread_once(&once, fa_plain_init);
	}
	__atomic_store_n(&fa_calls_found, calls, __ATOMIC_RELEASE);
	return calls;
}

#endif /* FA_NO_PLAIN */

#ifdef __cplusplus
}
#endif
#endif
