#include "core/tier/heap_pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/account.h"
#include "core/credit.h"
#include "core/region/region.h"
#include "core/runtime.h"
#include "core/tier/jemalloc.h"
#include "core/trace/writer.h"

void je_ehooks_default_zero_impl(void *address, size_t bytes);

/* Compiled-in jemalloc options: no background thread in somebody else's process, no dss; no pages given back for their number
   alone, nor a request refused what is free because that is many times as large. */
extern const char *fa_je_malloc_conf;
__attribute__((visibility("hidden"))) const char *fa_je_malloc_conf =
	"background_thread:false,dss:disabled,abort_conf:false,oversize_threshold:0,lg_extent_max_active_fit:20";

#define SAID_BYTES (1u << 20) /* moved by a thread before it tells the others */
#define LOOK_BYTES (16u << 20) /* taken and freed by all between two looks, at least */
#define LOOK_MS 2 /* between two, at least, when something is taken, but for a huge block */
#define LOOK_SHARE 16 /* of the peak */
#define SPARE_BYTES (8u << 20)
#define SPARE_SHARE 4 /* of the peak: each thread has free pages of its own, and not all of them fit */
#define HUGE_BYTES (32u << 20) /* beyond it glibc maps each block on its own */
#define HUGE_SHARE 3 /* of the peak */
#define DECAY_MS 10000 /* jemalloc's default */
#define EAGER_BYTES (8u << 20) /* jemalloc's own threshold, */
#define EAGER_MS 1000u /* and how long it holds after so much was kept that some had to go */
#define IDLE_MS 1000u /* what has been free for so long is not wanted */

_Atomic bool heap_pages_watched;

static _Atomic size_t moved, look_at = LOOK_BYTES;

static struct {
	_Atomic int looker; /* the process of which a thread looks; 0: none does. Nobody waits for it */
	bool begun;
	_Atomic bool left_alone; /* FA_MALLOC_CONF says otherwise */
	uint64_t eager_until_ms; /* 0: jemalloc does not give back by itself */
	_Atomic uint64_t looked_ms; /* 0: nobody has */
	struct credit credit; /* for what need not be given back */
	uint64_t low, low_since_ms; /* the fewest free bytes that a look has found since */
} state;

/* From how many free bytes that lie together on each arena gives them back at once. */
static void set_threshold(size_t bytes)
{
	unsigned count = 0;
	size_t count_bytes = sizeof count, mib[3], length = 3;
	if (fa_je_mallctl("arenas.narenas", &count, &count_bytes, NULL, 0) ||
	    fa_je_mallctlnametomib("arena.0.oversize_threshold", mib, &length))
		return;
	for (mib[1] = 0; mib[1] < count; mib[1]++) /* it fails for those that are yet to be made */
		fa_je_mallctlbymib(mib, length, NULL, NULL, &bytes, sizeof bytes);
}

/* 4096 is MALLCTL_ARENAS_ALL, here and below. */
static size_t free_bytes(void)
{
	jemalloc_refresh();
	return jemalloc_figure("stats.arenas.4096.pdirty") * PAGE_BYTES;
}

void heap_pages_give_back(void)
{
	fa_je_mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
}

/* What blocks of so many bytes take at most: jemalloc rounds large sizes up by as much as a quarter. */
static uint64_t in_pages(uint64_t bytes)
{
	return bytes + bytes / 4;
}

/* By the looker. Whether `bytes` can be given back; then they are spent. As much as the peak can be saved. */
static bool spend(uint64_t bytes, uint64_t peak, uint64_t now_ns)
{
	if (bytes > credit_left(&state.credit, peak, now_ns))
		return false;
	state.credit.spent += bytes;
	return true;
}

/* By the looker, which has found `kept` free bytes: how many of them nobody has wanted for a second. What came and went between
   two looks it has not seen. */
static uint64_t idle_bytes(uint64_t kept, uint64_t now_ms)
{
	uint64_t unseen = atomic_load_explicit(&look_at, memory_order_relaxed), idle = 0;
	if (kept < state.low)
		state.low = kept;
	if (now_ms - state.low_since_ms < IDLE_MS)
		return 0;
	if (state.low > unseen)
		idle = state.low - unseen;
	state.low = kept;
	state.low_since_ms = now_ms;
	return idle;
}

/* Those who take it may not write to all of it: a vector that doubles does not. */
static always_inline bool is_huge(size_t bytes)
{
	return unlikely(bytes > HUGE_BYTES) && trace_header && bytes > trace_header->peak_bytes / HUGE_SHARE;
}

/* By the looker. `more` lives soon. */
static void judge(size_t more)
{
	struct account_level level = account_level();
	uint64_t live = level.live_bytes + more, below = level.peak_bytes > live ? level.peak_bytes - live : 0;
	uint64_t spare = SPARE_BYTES + (is_huge(more) ? 0 : level.peak_bytes / SPARE_SHARE);
	uint64_t kept = free_bytes(), now_ns = base_now_ns(), now_ms = now_ns / 1000000;
	uint64_t most = in_pages(below) + spare;
	if (kept + region_span_kept() > most) /* what lives now is of another tier than what did */
		region_span_keep(kept < most ? (uint32_t)((most - kept) >> REGION_CHUNK_BITS) : 0);
	atomic_store_explicit(&state.looked_ms, now_ms, memory_order_relaxed);
	uint64_t idle = idle_bytes(kept, now_ms);
	bool too_much = !state.eager_until_ms && kept > most;
	bool gone = too_much || (kept > SPARE_BYTES && spend(kept - idle, in_pages(level.peak_bytes) + spare, now_ns));
	if (gone)
		heap_pages_give_back();
	atomic_store_explicit(&heap_pages_watched, !gone && kept > SPARE_BYTES, memory_order_relaxed);
	if (too_much)
		state.eager_until_ms = now_ms + EAGER_MS;
	if (state.eager_until_ms && now_ms >= state.eager_until_ms) {
		set_threshold(SIZE_MAX);
		state.eager_until_ms = 0;
	} else if (state.eager_until_ms) { /* again: an arena may be new */
		set_threshold(EAGER_BYTES);
	}
	uint64_t share = level.peak_bytes / LOOK_SHARE;
	atomic_store_explicit(&look_at, share > LOOK_BYTES ? share : LOOK_BYTES, memory_order_relaxed);
}

/* The first arena is made before the options are read: what they say about a threshold it does not know. */
static void begin(void)
{
	state.begun = true;
	state.left_alone =
		jemalloc_figure("opt.oversize_threshold") || jemalloc_figure("opt.dirty_decay_ms") != DECAY_MS;
	if (!state.left_alone)
		set_threshold(SIZE_MAX);
}

static cold_path void look(size_t more)
{
	/* Statistics of every arena are read: not more often than so many pages can be written to. What is freed may be the last. */
	uint64_t looked_ms = atomic_load_explicit(&state.looked_ms, memory_order_relaxed);
	if ((more && more <= HUGE_BYTES && base_now_ns() / 1000000 - looked_ms < LOOK_MS) || runtime_forked())
		return; /* the accounts of the parent are gone, there are none yet */
	int saved_errno = errno, self = (int)base_forks() + 1,
	    looker = atomic_load_explicit(&state.looker, memory_order_relaxed);
	if (looker == self || !atomic_compare_exchange_strong(&state.looker, &looker, self))
		return;
	atomic_store_explicit(&moved, 0, memory_order_relaxed);
	if (!state.begun)
		begin();
	if (!state.left_alone)
		judge(more);
	errno = saved_errno;
	atomic_store_explicit(&state.looker, 0, memory_order_release);
}

static always_inline void move(size_t bytes, size_t more)
{
	static __thread size_t unsaid;
	if ((unsaid += bytes) < SAID_BYTES)
		return;
	size_t all = atomic_fetch_add_explicit(&moved, unsaid, memory_order_relaxed) + unsaid;
	unsaid = 0;
	if (all < atomic_load_explicit(&look_at, memory_order_relaxed))
		return;
	look(more);
}

void heap_pages_taken(size_t bytes)
{
	move(bytes, bytes);
}

void heap_pages_freed(void *start, size_t bytes)
{
	if (is_huge(bytes) && !state.left_alone) {
		int saved_errno = errno;
		madvise((void *)round_up((uintptr_t)start, PAGE_BYTES), bytes - PAGE_BYTES, MADV_DONTNEED);
		errno = saved_errno;
	}
	move(bytes, 0);
}

void heap_pages_resized(size_t before, size_t size)
{
	if (size > before)
		move(size, size - before);
	else
		move(before - size, 0);
}

void heap_pages_later(uint64_t now_ns)
{
	if (now_ns / 1000000 - atomic_load_explicit(&state.looked_ms, memory_order_relaxed) >= IDLE_MS)
		look(0);
}

/* calloc of what has been used before. Where jemalloc would hand it back to the system and take it again, this costs a page
   fault for each page; glibc fills by hand up to so much, too. */
void je_ehooks_default_zero_impl(void *address, size_t bytes)
{
	if (bytes <= HUGE_BYTES || je_pages_purge_forced(address, bytes))
		memset(address, 0, bytes);
}
