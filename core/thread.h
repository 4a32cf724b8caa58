/*
 * The state of one thread: what malloc and free need at every call, in one place.
 *
 * Glossary
 *   slot     a thread state with its counters, arena, slabs and call-path caches. A slot outlives its thread and is
 *            handed to the next one as it is: nothing is merged or torn down at thread exit, and memory is bounded by
 *            the highest number of threads alive at once.
 *   record   the thread's entry in the recording (struct trace_thread); new for each thread.
 *
 * Thread states lie in MADV_WIPEONFORK memory: in the child of a fork every field reads zero, and zero means "take the
 * slow path", where the child is noticed. Only the owning thread writes its state, but for `remote_*`, `own_deaths_remote`,
 * `frame_owned` and `frame_abandoned` (any thread), `role_wanted` with the limits of the fast paths (role.c), and the marks of
 * peaks (account.c). Who gives back what an idle slot holds (slot_reclaim_idle) owns it meanwhile.
 */
#ifndef FA_THREAD_H
#define FA_THREAD_H

#include "core/attach.h"
#include "core/base.h"
#include "core/block.h"
#include "core/clock.h"
#include "core/path/path.h"
#include "core/registry/policy.h"
#include "core/segment.h"
#include "core/trace/writer.h"

#define THREAD_SLOTS_MAX 4096u
#define THREAD_POOL_CLASSES 40u
#define THREAD_REMOTE_RING 2048u
#define THREAD_GATHERED 8u
#define THREAD_DEMOTED_MAX 256u
#define THREAD_TAGS_MAX 64u
#define THREAD_ESCAPES 1024u
#define THREAD_TASK_TYPES 256u
#define THREAD_TASK_CACHE 1024u
#define THREAD_SITE_GROUPS (32768u / TRACE_GROUP_SITES)

/*
 * The gate: malloc and free take the fast path only when it reads exactly THREAD_READY. Everything rare is a bit here.
 *   0                 not attached, or wiped by a fork
 *   THREAD_INTERNAL   the shim itself is at work (dlopen of the unwinder, thread start): allocations are untracked
 *   THREAD_BUSY       inside an operation on this state: a signal handler that comes now must keep out
 *   THREAD_ENDED      after its last destructor: operations go to a shared slot
 */
enum { THREAD_READY = 1u, THREAD_INTERNAL = 0x100u, THREAD_BUSY = 0x10000u, THREAD_ENDED = 0x1000000u };

struct binding;
struct coroutine;
struct frame_span;
struct frames_keeper;
struct guard;
struct own_frame_block;
struct scope_entry;
struct task;
struct pool_slab;

/* Sums that a task's accounts are taken from. */
struct thread_totals {
	uint64_t allocs, frees, bytes;
	int64_t live_bytes;
	uint64_t other_deaths, other_deaths_bytes;
};

/* The totals when the open frame began. */
struct thread_edge {
	uint64_t allocs[TRACE_TIERS], bytes, frees;
	int64_t live_bytes;
};

/* What belongs to a stack rather than to the thread that runs on it: kept here while the thread is on another. */
struct thread_stack {
	struct scope_entry *scopes;
	uint32_t depth, room, tag;
	uintptr_t low, high;
	struct task *task;
};

/* A site that escaped too much and is served from the pool for now. */
struct thread_demotion {
	uint32_t site;
	uint32_t since_frame; /* it is judged wait_frames later */
	uint32_t wait_frames; /* doubles with each relapse */
	uint64_t escaped; /* its escapes (outlived + died elsewhere) when the window began */
	uint64_t births;
	int64_t live_bytes;
};

/* stacks=none: what a size class stands for in one role and region. */
struct thread_class {
	const struct trace_counter *counter; /* class_unused: not used yet. That one is never written to */
	uint32_t place; /* counter_place() of it; 0 */
	uint32_t cache; /* which of a tier's caches serves these sizes */
};

extern const struct trace_counter class_unused own_data; /* its route is nobody's */

/* Blocks of one size class that are dead and may be handed out at once, the last freed first: what a free has just touched,
   the next malloc touches again. Their slabs count them as alive. */
struct thread_cache {
	struct block *head; /* chained by block.birth */
	int64_t room; /* for so many more */
};

/* Slabs of one tier. */
struct thread_slabs {
	struct thread_cache cache[THREAD_POOL_CLASSES];
	uint16_t limit[THREAD_POOL_CLASSES]; /* blocks that a cache takes at most; 0: as many as at first */
	struct pool_slab *current[THREAD_POOL_CLASSES]; /* the slab that caches are filled from */
	struct pool_slab *others[THREAD_POOL_CLASSES]; /* the rest, a ring: partly or wholly used */
};

struct thread {
	/* one cache line: read and written at every call */
	uint32_t gate; /* see above; written with compiler barriers by the owner only */
	uint8_t role; /* enum trace_role */
	bool in_frame, in_task;
	bool frame_paused; /* in an await of the API: a frame is open, but what runs is not its code; in_frame is false */
	uint8_t *bump, *limit; /* free room of the current frame span */
	struct frame_span *span; /* the current one; NULL: none */
	uint64_t birth; /* current segment id, where a header has it (block.h) */
	uint64_t
		clean_birth; /* the same where the fast path of free may compare with it, else of SEGMENT_NONE, which no header has */
	const struct thread_class *classes; /* stacks=none: of this role and region, by size class; else NULL */
	struct trace_thread *record;
	/* one cache line, read at every call: which requests the fast paths may serve (scope_settle), those of 1 to so many
	   bytes, and what lies in slabs */
	size_t bump_max; /* from the frame tier, unless their site is demoted or ruled */
	size_t bump_class_max; /* the same with stacks=none: the first thing that malloc asks */
	size_t small_max; /* from slabs: in a frame for demoted sites, else for all */
	size_t small_class_max; /* the same with stacks=none */
	struct thread_cache *small_caches; /* of the tier they are accounted to */
	struct trace_sums *small_sums; /* where they are accounted for */
	uint64_t small_base; /* block_state_base of small_tag */
	uint16_t small_tag;
	uint16_t small_route; /* whose route is this: TRACE_ROUTE_DEMOTED in a frame, else 0 */
	uint8_t small_tier; /* enum trace_tier */
	uint8_t small_outside; /* 1: born outside every scope */
	uint8_t birth_shift; /* 0 in a scope, 2 outside: births[tier + birth_shift] */
	/* often */
	int64_t small_peak_at; /* of peak_at, small_tier's */
	struct path_cache *alloc_paths; /* NULL: there is no room for it, callers are all that is known */
	uint64_t frame_base; /* frame number (low 32 bits) << 32; 0 outside frames */
	uint32_t tag; /* innermost open region, 0: none */
	bool interrupted; /* the shared slot, used by a handler inside an operation: jemalloc must not be entered */
	uint8_t creator_role; /* enum trace_role of the thread that made this one */

	/* slow paths */
	uint32_t slot, record_index;
	uintptr_t handle; /* pthread_t */
	/* Live bytes that this thread may have before peaks are looked at again: account.c. */
	int64_t peak_at[TRACE_TIERS];
	int64_t peak_said[TRACE_TIERS];
	uint16_t plain_births; /* in_frame << 8 | small_tier: what plain births are, whether or not there are any now */
	uint32_t seen; /* counters that were seen since the frame began, or ended: place of the first, 0: none */
	uint32_t frame; /* current frame number, 0 before the first boundary */
	uint32_t awaits;
	struct segment_lease segments;
	struct scope_entry *scopes; /* open entry/return scopes, outermost first: scope_stack.h */
	uint32_t scope_depth, scope_room;
	uintptr_t stack_low, stack_high; /* of the present stack: its own, or a coroutine's; 0: not asked yet */
	uint32_t destructor_rounds;
	uint64_t boundary_ns; /* of the last one: a wait begins with it */
	struct clock clock;
	struct frames_keeper *frames; /* that the thread of this slot had last: frames.c */
	uint32_t boundary_node; /* call path of the last boundary */
	uintptr_t boundary_return, boundary_stack; /* what that path was captured for */
	const struct binding *boundary_by; /* its marker */
	const struct binding *boundary_passed_on; /* passed over since: the last one's function jumped to it */
	uint32_t await_node; /* the same of the last await outside tasks */
	uintptr_t await_return, await_stack;
	struct path_cache *other_paths; /* as alloc_paths, for deaths and markers; NULL: there was none (slot.h) */
	uint32_t general_births; /* which the fast paths have not served (alloc.c); modulo 2^32 */
	uint64_t slow_frees; /* frees in this frame that were not of this frame's blocks */
	uint64_t frame_violations; /* recorded since the frame began */
	struct thread_edge at_frame;
	int64_t boundary_live_max; /* most live bytes of this thread at a boundary so far */
	uint32_t never_ends_frame; /* frame that FA604 has fired in */
	_Atomic uint8_t role_wanted; /* enum trace_role + 1, by whoever gave the thread a name; 0: none */
	_Atomic bool
		frame_abandoned; /* set by the thread that the boundary has moved to: the open frame ends when seen */

	/* frame tier */
	struct frame_span *full_spans; /* spans that were filled and hold live blocks */
	struct frame_span *empty_spans; /* ours, without live blocks */
	uint32_t spans_owned, spans_empty, spans_empty_low;
	uint32_t pins_looked_at; /* full spans that there were when `pins_much` was decided */
	bool spans_sparse; /* as the current span was taken: sites that are new begin in the pool */
	bool pins_much; /* what is dead in full spans is much of what they hold: sites that pin them must go */
	uint64_t trim_at_ns; /* spans that nobody has needed since are given back */
	uint64_t look_at_ns; /* not later, and sooner while the region has some to purge */
	/* pool tier */
	uint32_t slabs_left; /* that had nothing alive in them any more */
	struct thread_slabs slabs[TRACE_TIERS]; /* of the pool tier, and of the heap tier for small blocks */
	struct trace_tally **tallies; /* the slot's, by violation record */
	uint32_t demoted_count, demoted_cursor; /* of `demoted` */
	struct thread_class *class_table; /* stacks=none, by role, region and size class: site.h */

	/* tasks */
	struct task *task; /* the innermost that runs on the present stack */
	struct coroutine *coroutine; /* whose stack that is; NULL: the thread's own */
	struct thread_stack own_stack; /* while a coroutine runs */
	struct guard *guards; /* of the API, opened outside tasks; innermost */
	struct thread_totals at_task; /* when the present task was last accounted for */
	uint64_t other_deaths, other_deaths_bytes; /* deaths in another segment than the birth's, so far; usable */
	const struct block *handed_on; /* by the API; its death, which comes next, is none of its task's: task.h */
	int64_t other_blocks; /* births minus deaths, in this frame, of blocks that are tasks' or born in its pauses */

	/* blocks that the API made in the open frame, released at its end: own.h */
	struct own_frame_block *frame_blocks;
	uint32_t frame_block_count, frame_block_room;
	struct attach_owner frame_owned; /* those that other threads have resized */

	uint32_t api_frames; /* fa_frame_begin less fa_frame_end */
	uint32_t api_awaits; /* the same of fa_await_begin and end, outside tasks */
	uint32_t api_paused_by; /* which of them, from 1, keeps the open frame waiting; 0: none */
	uint32_t tag_depth;
	uint8_t tag_stack[THREAD_TAGS_MAX]; /* regions that fa_tag_push left */

	/* regions */
	uint64_t tag_from; /* bytes allocated so far when the present region was entered */
	uint64_t tag_bytes[POLICY_REGIONS_MAX]; /* allocated in each since the frame began */

	/* blocks of another thread that this one has freed, on their way to it (remote.h) */
	struct thread *gathered_for;
	uint32_t gathered_count;
	struct block *gathered[THREAD_GATHERED];

	/* written by other threads: blocks of ours that they freed (remote.h) */
	_Alignas(64) _Atomic uint64_t remote_pushed; /* places of the ring given out so far */
	_Atomic uint64_t remote_taken; /* and taken back, by the owner */
	_Atomic(struct block *) remote_more; /* what found no place, chained by block.birth */
	_Atomic uint64_t remote_chained; /* blocks that were chained there so far */
	struct block *remote_rest; /* the owner's: what of a chain is still to be taken back */
	uint64_t remote_unchained; /* the owner's: blocks taken back from chains */
	_Atomic uint64_t own_deaths_remote; /* blocks of the open frame that other threads freed in it */

	/* tables, last: most threads touch few of their pages */
	_Alignas(
		64) struct trace_counter *groups[THREAD_SITE_GROUPS]; /* by site / TRACE_GROUP_SITES; NULL until used */
	_Alignas(64) _Atomic(struct block *) remote_ring[THREAD_REMOTE_RING]; /* also written by other threads */
	struct thread_escape {
		uint64_t nodes; /* site, and the call path of the death << 32 */
		uint32_t kind; /* code, and level << 16 */
		struct trace_tally *tally; /* NULL: not used yet */
	} escapes[THREAD_ESCAPES]; /* violations of blocks that keep coming: escape.h */
	struct thread_demotion demoted[THREAD_DEMOTED_MAX]; /* learned verdicts */
	struct trace_task_count *task_counts[THREAD_TASK_TYPES]; /* the slot's */
	struct {
		uintptr_t caller;
		uint32_t place; /* counter_place() */
	} caller_site[256]; /* stacks=caller */
	uint32_t caller_changes; /* module_changes when these were true */
	struct {
		uintptr_t key;
		struct task *task;
		uint32_t id;
	} task_cache[THREAD_TASK_CACHE];
};

/* Never NULL: threads that are not attached point to an empty state, ended ones to one that says so. */
extern __thread struct thread *thread_self own_data __attribute__((tls_model("initial-exec")));

static always_inline void thread_busy(struct thread *thread)
{
	thread->gate |= THREAD_BUSY;
	__asm__ volatile("" ::: "memory");
}

static always_inline void thread_idle(struct thread *thread)
{
	__asm__ volatile("" ::: "memory");
	thread->gate &= ~THREAD_BUSY;
}

/* The same for who has seen the gate open: nothing is read back, so that the next call need not wait for the store. */
static always_inline void thread_shut(struct thread *thread)
{
	thread->gate = THREAD_READY | THREAD_BUSY;
	__asm__ volatile("" ::: "memory");
}

static always_inline void thread_open(struct thread *thread)
{
	__asm__ volatile("" ::: "memory");
	thread->gate = THREAD_READY;
}

static always_inline uint64_t thread_segment(const struct thread *thread)
{
	return block_segment_of(thread->birth);
}

int thread_init(void);

/* Attaches the calling thread, which a thread of role `creator` made. NULL: no slot left. Signals are
   blocked meanwhile: one that comes in the middle would find a thread half made. */
struct thread *thread_attach(uintptr_t start_routine, enum trace_role creator);

/* Between these, this thread's allocations are the shim's own. */
void thread_internal_begin(void);
void thread_internal_end(void);

/* The same with signals blocked, for work that the program's own code has not asked for: a handler may leave by a jump,
   and jemalloc's locks would stay taken. */
void thread_internal_shielded(void (*work)(void *a, void *b), void *a, void *b);

/* The shared slot for operations after a thread's end. Returns it locked, or NULL when that cannot be had. */
struct thread *thread_late_enter(void);
void thread_late_leave(void);

/* runtime.stacks is another than when the first slots were made, before main. False: there is no memory. */
bool thread_take_stacks(void);

/* stacks=none: sites depend on role and region, one of which has changed. */
void thread_choose_classes(struct thread *thread);

/* Starts a new segment: every marker does. */
void thread_new_segment(struct thread *thread);

/* In the child of a fork. */
void thread_child(void);

#endif
