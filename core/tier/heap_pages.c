#include "core/tier/heap_pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/account.h"

int fa_je_mallctl(const char *name, void *old, size_t *old_bytes, void *new_value, size_t new_bytes);
void je_ehooks_default_zero_impl(void *address, size_t bytes);

/* Compiled-in jemalloc options: no background thread in somebody else's process, no dss; no pages given back for their number
   alone, nor a request refused what is free because that is many times as large. */
extern const char *fa_je_malloc_conf;
__attribute__((visibility("hidden"))) const char *fa_je_malloc_conf =
	"background_thread:false,dss:disabled,abort_conf:false,oversize_threshold:0,lg_extent_max_active_fit:20";

#define PAGE_BYTES 4096u
#define SAID_BYTES (1u << 20)  /* moved by a thread before it tells the others */
#define LOOK_BYTES (16u << 20) /* taken and freed by all between two looks, at least */
#define LOOK_SHARE 16          /* of the peak */
#define SPARE_BYTES (8u << 20)
#define HUGE_BYTES (32u << 20) /* beyond it glibc maps each block on its own */
#define HUGE_SHARE 3           /* of the peak */
#define CREDIT_PER_MS (32u << 10) /* 32 MiB a second; a MiB's page faults take some 0.2 ms */

static _Atomic size_t moved, look_at = LOOK_BYTES;

/* What may be given back, beyond what must be: bytes. */
static struct {
	struct base_lock lock;
	uint64_t since_ms;
	uint64_t earned; /* by time, since then */
	uint64_t spent;
} credit;

static size_t read_size(const char *name)
{
	size_t value = 0, bytes = sizeof value;
	return fa_je_mallctl(name, &value, &bytes, NULL, 0) ? 0 : value;
}

/* The first arena is made before the options are read. A threshold that FA_MALLOC_CONF names is the user's. */
static void obey_options(void)
{
	size_t never = SIZE_MAX;
	if (!read_size("opt.oversize_threshold"))
		fa_je_mallctl("arena.0.oversize_threshold", NULL, NULL, &never, sizeof never);
}

/* 4096 is MALLCTL_ARENAS_ALL, here and below. */
static size_t free_bytes(void)
{
	uint64_t epoch = 1;
	fa_je_mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
	return read_size("stats.arenas.4096.pdirty") * PAGE_BYTES;
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

/* Whether `bytes` can be given back; then they are spent. As much as the peak can be saved. */
static bool credit_spend(uint64_t bytes, uint64_t peak)
{
	if (!base_lock(&credit.lock))
		return false;
	uint64_t now_ms = base_now_ns() / 1000000;
	if (credit.since_ms)
		credit.earned += (now_ms - credit.since_ms) * CREDIT_PER_MS;
	credit.since_ms = now_ms;
	if (credit.earned > credit.spent)
		credit.earned = credit.spent;
	bool enough = credit.spent - credit.earned + bytes <= peak;
	if (enough)
		credit.spent += bytes;
	base_unlock(&credit.lock);
	return enough;
}

/* `more` lives soon. */
static cold_path void look(size_t more)
{
	static _Atomic bool obeyed;
	int saved_errno = errno;
	if (!atomic_exchange(&obeyed, true))
		obey_options();
	struct account_level level = account_level();
	size_t live = level.live_bytes + more, below = level.peak_bytes > live ? level.peak_bytes - live : 0;
	size_t kept = free_bytes();
	if (kept > SPARE_BYTES && (kept - SPARE_BYTES > in_pages(below) || credit_spend(kept, in_pages(level.peak_bytes))))
		heap_pages_give_back();
	size_t share = level.peak_bytes / LOOK_SHARE;
	atomic_store_explicit(&look_at, share > LOOK_BYTES ? share : LOOK_BYTES, memory_order_relaxed);
	errno = saved_errno;
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
	atomic_store_explicit(&moved, 0, memory_order_relaxed);
	look(more);
}

void heap_pages_taken(size_t bytes)
{
	move(bytes, bytes);
}

void heap_pages_freed(void *start, size_t bytes)
{
	/* Those who take it next may not write to all of it: a vector that doubles does not. */
	if (unlikely(bytes > HUGE_BYTES) && bytes > account_level().peak_bytes / HUGE_SHARE) {
		int saved_errno = errno;
		madvise((void *)round_up((uintptr_t)start, PAGE_BYTES), bytes - PAGE_BYTES, MADV_DONTNEED);
		errno = saved_errno;
	}
	move(bytes, 0);
}

/* calloc of what has been used before. Where jemalloc would hand it back to the system and take it again, this costs a page
   fault for each page; glibc fills by hand up to so much, too. */
void je_ehooks_default_zero_impl(void *address, size_t bytes)
{
	if (bytes <= HUGE_BYTES || madvise(address, bytes, MADV_DONTNEED))
		memset(address, 0, bytes);
}
