/* The half that is cut into spans: it grows by bumping an index, freed spans go to chains that are kept beside them (their own
   memory may be purged). */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "core/credit.h"
#include "core/region/half.h"

#define HUGE_SPANS (uint32_t)(REGION_HUGE_BYTES >> REGION_CHUNK_BITS)
#define COMMIT_SPANS 16u /* spans made accessible by one system call, */
#define SMALL_SPANS 512u /* as long as there are no more than these: huge pages would be felt in what is resident */
#define USER_SPANS 64u /* nor so many for each thread, which has slabs of some thirty sizes, most of them hardly used */
#define GIVEN_TO_LOOK 128u /* spans given back, for one look at what nobody needed meanwhile */
#define PURGE_BATCH 128u
#define PURGE_MOST (8 * PURGE_BATCH) /* at once */
#define PURGE_A_FRAME 16u /* spans, of many: no frame should wait for all of them */
#define FRAME_NS 16000000u /* a frame that takes so long as many again, and so on */
#define IDLE_NS 1000000000u /* what has been free for so long is not wanted */
#define FRAMES_SILENT_NS (2ull * IDLE_NS) /* frames that do not end for so long leave it to who allocates */
#define NO_SPAN UINT32_MAX

static struct {
	struct base_lock lock;
	struct half half;
	uintptr_t start;
	uint32_t taken, committed, limit; /* span indices: [0, taken) handed out once, [0, committed) accessible */
	struct chain {
		uint32_t head, count;
	} free, purged, unmapped; /* free spans: with their pages, without, and not even mapped */
	uint32_t skipped; /* of `taken`: somebody else's mappings lie there */
	uint32_t free_low; /* lowest free.count since the last look for idle ones */
	uint32_t given_low; /* lowest free.count since so many were given back, */
	uint32_t given; /* which are counted here */
	uint32_t idle; /* of the free ones: what is to be purged */
	struct credit credit; /* for spans that are purged before they were free for a second */
	uint64_t framed_ns, framed_look_ns; /* when a frame's end purged last, and when one looked for idle ones */
	_Atomic uint64_t look_at_ns; /* a second begins; not while frames end; written under the lock */
	uint32_t *next; /* chain links, by span index */
} spans;

/* Lock held, in all that takes a chain. NO_SPAN: it is empty. */
static uint32_t chain_take(struct chain *chain)
{
	uint32_t index = chain->head;
	if (index != NO_SPAN) {
		chain->head = spans.next[index];
		chain->count--;
	}
	return index;
}

static void chain_put(struct chain *chain, uint32_t index)
{
	spans.next[index] = chain->head;
	chain->head = index;
	chain->count++;
}

void span_half_begin(uintptr_t start, size_t bytes, uint32_t *links, bool unreserved)
{
	spans.half = (struct half){unreserved, bytes};
	spans.start = start;
	spans.limit = (uint32_t)(bytes >> REGION_CHUNK_BITS);
	spans.next = links;
	spans.free.head = spans.purged.head = spans.unmapped.head = NO_SPAN;
	region.span_end = region.bytes;
	if (!unreserved)
		base_keep_small((void *)start, bytes);
}

static void *span_at(uint32_t index)
{
	return (void *)(spans.start + ((uintptr_t)index << REGION_CHUNK_BITS));
}

static void unmap_chain(struct chain *chain)
{
	for (uint32_t index; (index = chain_take(chain)) != NO_SPAN;) {
		half_mark((uintptr_t)span_at(index), REGION_CHUNK_BYTES, REGION_NONE);
		munmap(span_at(index), REGION_CHUNK_BYTES);
		chain_put(&spans.unmapped, index);
	}
}

/* Lock held. */
static void fewer_are_free(void)
{
	if (spans.free.count < spans.free_low)
		spans.free_low = spans.free.count;
	if (spans.free.count < spans.given_low)
		spans.given_low = spans.free.count;
	if (spans.free.count < spans.idle)
		spans.idle = spans.free.count;
}

bool span_half_unmap_free(void)
{
	if (!base_lock(&spans.lock))
		return false;
	uint32_t before = spans.unmapped.count;
	if (spans.half.unreserved) {
		unmap_chain(&spans.free);
		unmap_chain(&spans.purged);
		fewer_are_free();
	}
	bool some = spans.unmapped.count != before;
	base_unlock(&spans.lock);
	return some;
}

static _Atomic uint32_t span_users;

void region_span_users(uint32_t users)
{
	atomic_store_explicit(&span_users, users, memory_order_relaxed);
}

/* Lock held. */
static int map_spans(uint32_t index, uint32_t count)
{
	size_t bytes = (size_t)count << REGION_CHUNK_BITS;
	int error = half_map((struct taken){(uintptr_t)span_at(index), spans.half.unreserved}, bytes,
			     PROT_READ | PROT_WRITE);
	if (!error && spans.half.unreserved)
		base_keep_small(span_at(index), bytes);
	return error;
}

/* Lock held. One that was given back and has been unmapped since, or NO_SPAN. */
static uint32_t take_unmapped(void)
{
	for (uint32_t index; (index = chain_take(&spans.unmapped)) != NO_SPAN; spans.skipped++) {
		int error = map_spans(index, 1);
		if (!error)
			return index;
		if (error == -ENOMEM) {
			chain_put(&spans.unmapped, index);
			break;
		}
	}
	return NO_SPAN;
}

/* Lock held. Maps the spans that come next, one at least; where nothing more can be had, none. */
static void commit_spans(void)
{
	uint64_t users = atomic_load_explicit(&span_users, memory_order_relaxed);
	bool huge = spans.committed >= SMALL_SPANS && spans.committed >= users * USER_SPANS;
	uint32_t count = huge ? HUGE_SPANS - spans.committed % HUGE_SPANS : COMMIT_SPANS;
	for (uint32_t beyond = 1; spans.committed < spans.limit;) {
		if (count > spans.limit - spans.committed)
			count = spans.limit - spans.committed;
		int error = map_spans(spans.committed, count);
		if (!error) {
			if (huge) /* what a program touches every frame then needs few entries of the TLB */
				madvise(span_at(spans.committed), (size_t)count << REGION_CHUNK_BITS, MADV_HUGEPAGE);
			spans.committed += count;
			return;
		}
		if (count > 1) {
			count = 1;
		} else if (error == -EEXIST) {
			uint32_t skipped =
				spans.limit - spans.committed < beyond ? spans.limit - spans.committed : beyond;
			spans.taken = spans.committed += skipped;
			spans.skipped += skipped;
			beyond *= 2;
		} else {
			return;
		}
	}
}

void *region_span_take(enum region_owner owner, bool *has_pages)
{
	if (!base_lock(&spans.lock))
		return NULL;
	uint32_t index = chain_take(&spans.free);
	*has_pages = index != NO_SPAN;
	if (*has_pages) {
		fewer_are_free();
	} else if ((index = chain_take(&spans.purged)) == NO_SPAN && (index = take_unmapped()) == NO_SPAN) {
		if (spans.taken == spans.committed)
			commit_spans();
		if (spans.taken < spans.committed)
			index = spans.taken++;
	}
	base_unlock(&spans.lock);
	if (index == NO_SPAN)
		return NULL;
	half_mark((uintptr_t)span_at(index), REGION_CHUNK_BYTES, owner);
	return span_at(index);
}

/* Lock held. */
static void look_for_idle(void)
{
	spans.idle = spans.free_low;
	spans.free_low = spans.free.count;
}

/* The pages of spans that lie side by side go by one system call, which takes longer than they do; where some of them
   are locked it does not reach those behind. */
static void release(uint32_t from, uint32_t count)
{
	int saved_errno = errno;
	if (madvise(span_at(from), (size_t)count << REGION_CHUNK_BITS, MADV_DONTNEED) && count > 1)
		for (uint32_t i = 0; i < count; i++)
			madvise(span_at(from + i), REGION_CHUNK_BYTES, MADV_DONTNEED);
	errno = saved_errno;
}

/* Lock held. Up to so many of the idle ones, and of a batch, lose their pages; returns how many. */
static uint32_t purge_batch(uint32_t most)
{
	uint32_t batch[PURGE_BATCH], count = 0;
	for (; count < most && count < PURGE_BATCH && spans.idle; count++, spans.idle--) {
		uint32_t index = chain_take(&spans.free), at = count;
		if (index == NO_SPAN) { /* a fork, or a cancellation, came in the midst of another thread's */
			spans.idle = spans.free.count = 0;
			break;
		}
		for (; at && batch[at - 1] > index; at--)
			batch[at] = batch[at - 1];
		batch[at] = index;
	}
	for (uint32_t from = 0, to; from < count; from = to) {
		for (to = from; to < count && batch[to] == batch[from] + (to - from); to++)
			chain_put(&spans.purged, batch[to]);
		release(batch[from], to - from);
	}
	fewer_are_free();
	return count;
}

/* The same of up to so many; others have the lock in between. True: some are left. */
static bool purge(uint32_t most)
{
	bool more = true;
	for (uint32_t some = 1; more && some && most; most -= some) {
		if (!base_lock(&spans.lock))
			return false;
		some = purge_batch(most);
		more = spans.idle != 0;
		base_unlock(&spans.lock);
	}
	return more;
}

/* Lock held. Of so many spans that may be needed again how many can be purged all the same. */
static uint32_t spend(uint32_t count, uint64_t now_ns)
{
	uint64_t most =
		credit_left(&spans.credit, (uint64_t)spans.taken << REGION_CHUNK_BITS, now_ns) >> REGION_CHUNK_BITS;
	count = count < most ? count : (uint32_t)most;
	spans.credit.spent += (uint64_t)count << REGION_CHUNK_BITS;
	return count;
}

/* Lock held. Where no frames end: what nobody has needed for a second is idle; `given`: since many were given back. False: they do. */
static bool look_without_frames(uint64_t now_ns, bool given)
{
	uint64_t look_at_ns = atomic_load_explicit(&spans.look_at_ns, memory_order_relaxed);
	if (now_ns >= look_at_ns) {
		if (!spans.idle) /* else these are what the last look has found */
			look_for_idle();
		atomic_store_explicit(&spans.look_at_ns, now_ns + IDLE_NS, memory_order_relaxed);
	} else if (look_at_ns - now_ns > IDLE_NS) {
		return false;
	}
	if (given && spans.given_low > spans.idle)
		spans.idle += spend(spans.given_low - spans.idle, now_ns);
	spans.given_low = spans.free.count;
	return true;
}

static void purge_without_frames(uint64_t now_ns, bool given)
{
	if (!base_lock(&spans.lock))
		return;
	bool purges = look_without_frames(now_ns, given);
	base_unlock(&spans.lock);
	if (purges && purge(PURGE_MOST))
		atomic_store_explicit(&spans.look_at_ns, now_ns, memory_order_relaxed);
}

void region_span_give(void *span)
{
	uint32_t index = (uint32_t)(((uintptr_t)span - spans.start) >> REGION_CHUNK_BITS);
	/* The chunk stays readable, so a stale pointer into it is still judged by its header. */
	if (!base_lock(&spans.lock)) {
		release(index, 1); /* its addresses are lost, its memory is not */
		return;
	}
	chain_put(&spans.free, index);
	bool looks = ++spans.given >= GIVEN_TO_LOOK;
	if (looks)
		spans.given = 0;
	base_unlock(&spans.lock);
	if (unlikely(looks)) /* without the lock: the clock may be another library's, with a lock of its own */
		purge_without_frames(base_now_ns(), true);
}

void region_span_later(uint64_t now_ns)
{
	if (now_ns >= atomic_load_explicit(&spans.look_at_ns, memory_order_relaxed))
		purge_without_frames(now_ns, false);
}

bool region_span_purge(uint64_t now_ns)
{
	if (!base_lock(&spans.lock))
		return false;
	uint64_t frames = spans.idle && now_ns > spans.framed_ns ? (now_ns - spans.framed_ns) / FRAME_NS : 0;
	spans.framed_ns = now_ns;
	atomic_store_explicit(&spans.look_at_ns, now_ns + FRAMES_SILENT_NS + IDLE_NS, memory_order_relaxed);
	if (now_ns > spans.framed_look_ns + IDLE_NS) {
		look_for_idle();
		spans.framed_look_ns = now_ns;
	}
	base_unlock(&spans.lock);
	uint64_t most = PURGE_A_FRAME * (frames + 1);
	return purge(most < PURGE_MOST ? (uint32_t)most : PURGE_MOST);
}

void region_span_keep(uint32_t most)
{
	for (bool more = true; more && base_lock(&spans.lock); base_unlock(&spans.lock)) {
		uint32_t idle = spans.idle;
		spans.idle = spans.free.count > most ? spans.free.count - most : 0;
		more = purge_batch(PURGE_BATCH) && spans.idle;
		spans.idle = idle < spans.free.count ? idle : spans.free.count;
	}
}

size_t region_span_kept(void)
{
	return (size_t)spans.free.count << REGION_CHUNK_BITS;
}

size_t region_span_committed(void)
{
	return (size_t)(spans.taken - spans.skipped - spans.purged.count - spans.unmapped.count) << REGION_CHUNK_BITS;
}

/* Lock held. What nobody uses is mapped no longer. */
static void unreserve(void)
{
	munmap(span_at(spans.committed), (size_t)(spans.limit - spans.committed) << REGION_CHUNK_BITS);
	spans.half = half_unreserved();
}

void span_half_limit(size_t more)
{
	if (!base_lock(&spans.lock))
		return;
	if (!spans.half.unreserved)
		unreserve();
	size_t end = half_end(&spans.half, (size_t)spans.committed << REGION_CHUNK_BITS, more);
	region.span_end = spans.start - region.base + end;
	spans.limit = (uint32_t)(end >> REGION_CHUNK_BITS);
	base_unlock(&spans.lock);
}
