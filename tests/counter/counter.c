/*
 * An independent witness for the real programs: counts allocations, frees, boundaries, and the frees that come before the
 * next boundary after the block's birth. Preloaded by the tests alone, never together with the library under test, and
 * made on purpose of other stuff: blocks are untouched and known by address in a side table, real work is done by libc's
 * own entry points, and boundaries are seen by interposition of the program's calls.
 *
 * COUNTER_BOUNDARY names the boundary: nanosleep (calls of usleep and sleep are calls of it), SDL_GL_SwapWindow,
 * SDL_RenderPresent or nothing. COUNTER_OUT is a file that receives `struct tally`, mapped, so that it is whole however
 * the program ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* What the tests read: harness.py unpacks it. Only sums, each updated atomically. */
struct tally {
	uint64_t allocations; /* successful; a realloc of a block to n > 0 is a free and an allocation */
	uint64_t frees;
	uint64_t boundaries;
	uint64_t frees_before_boundary; /* of all frees */
	uint64_t scoped_allocations; /* born on the boundary thread after the first boundary */
	uint64_t scoped_frees;
	uint64_t scoped_frees_before_boundary; /* by whichever thread */
	uint64_t unknown_frees; /* addresses that came by no call of ours */
	uint64_t lost; /* the table was full */
};

static struct tally nowhere;
static struct tally *tally = &nowhere;

enum { SHARDS = 64, SHARD_SLOTS = 1 << 16 };
struct entry {
	uintptr_t address; /* 0: free */
	uint64_t birth; /* boundary count << 1 | scoped */
};
struct shard {
	_Alignas(64) volatile int lock;
	uint32_t used;
	struct entry *entries;
};
static struct shard shards[SHARDS];

static void bump(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static uint64_t hash(uintptr_t address)
{
	return (address >> 4) * 0x9e3779b97f4a7c15u;
}

static struct shard *enter(uint64_t h)
{
	struct shard *shard = &shards[h >> 58];
	while (__atomic_exchange_n(&shard->lock, 1, __ATOMIC_ACQUIRE))
		syscall(SYS_sched_yield);
	if (!shard->entries)
		shard->entries = mmap(NULL, SHARD_SLOTS * sizeof *shard->entries, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return shard;
}

static void leave(struct shard *shard)
{
	__atomic_store_n(&shard->lock, 0, __ATOMIC_RELEASE);
}

static uint32_t home(uint64_t h)
{
	return (uint32_t)(h >> 40) & (SHARD_SLOTS - 1);
}

static bool on_boundary_thread(void)
{
	return syscall(SYS_gettid) == getpid();
}

static void note(void *p, uint64_t birth)
{
	uint64_t h = hash((uintptr_t)p);
	struct shard *shard = enter(h);
	uint32_t at = home(h);
	if (shard->used < SHARD_SLOTS * 7 / 8) {
		while (shard->entries[at].address)
			at = (at + 1) & (SHARD_SLOTS - 1);
		shard->entries[at] = (struct entry){(uintptr_t)p, birth};
		shard->used++;
	} else {
		bump(&tally->lost);
	}
	leave(shard);
}

/* Takes an address out of the table and closes the gap. False: not there. */
static bool forget(void *p, uint64_t *birth)
{
	uint64_t h = hash((uintptr_t)p);
	struct shard *shard = enter(h);
	uint32_t at = home(h), mask = SHARD_SLOTS - 1;
	while (shard->entries[at].address && shard->entries[at].address != (uintptr_t)p)
		at = (at + 1) & mask;
	bool found = shard->entries[at].address != 0;
	if (found) {
		*birth = shard->entries[at].birth;
		for (uint32_t next = (at + 1) & mask; shard->entries[next].address; next = (next + 1) & mask) {
			uint32_t wanted = home(hash(shard->entries[next].address));
			if (((next - wanted) & mask) >= ((next - at) & mask)) {
				shard->entries[at] = shard->entries[next];
				at = next;
			}
		}
		shard->entries[at].address = 0;
		shard->used--;
	}
	leave(shard);
	return found;
}

static void *born(void *p)
{
	if (!p)
		return NULL;
	uint64_t now = __atomic_load_n(&tally->boundaries, __ATOMIC_ACQUIRE);
	bool scoped = now && on_boundary_thread();
	bump(&tally->allocations);
	if (scoped)
		bump(&tally->scoped_allocations);
	note(p, now << 1 | scoped);
	return p;
}

static void count_death(uint64_t birth)
{
	bool same = birth >> 1 == __atomic_load_n(&tally->boundaries, __ATOMIC_ACQUIRE);
	bump(&tally->frees);
	if (same)
		bump(&tally->frees_before_boundary);
	if (birth & 1)
		bump(&tally->scoped_frees);
	if (birth & 1 && same)
		bump(&tally->scoped_frees_before_boundary);
}

static void died(void *p)
{
	uint64_t birth;
	if (!p)
		return;
	if (forget(p, &birth))
		count_death(birth);
	else
		bump(&tally->unknown_frees);
}

void *malloc(size_t size)
{
	return born(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return born(__libc_calloc(count, size));
}

void free(void *p)
{
	int kept = errno;
	died(p);
	errno = kept;
	__libc_free(p);
}

void cfree(void *p);
void cfree(void *p)
{
	free(p);
}

void *realloc(void *p, size_t size)
{
	if (!p)
		return born(__libc_realloc(NULL, size));
	if (!size) {
		free(p);
		return NULL;
	}
	uint64_t birth = 0;
	bool known = forget(p, &birth);
	void *moved = __libc_realloc(p, size);
	if (!moved) {
		if (known)
			note(p, birth);
		return NULL;
	}
	if (known)
		count_death(birth);
	else
		bump(&tally->unknown_frees);
	return born(moved);
}

void *reallocarray(void *p, size_t count, size_t size)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

void *memalign(size_t align, size_t size);
void *memalign(size_t align, size_t size)
{
	return born(__libc_memalign(align, size));
}

void *aligned_alloc(size_t align, size_t size)
{
	return born(__libc_memalign(align, size));
}

int posix_memalign(void **out, size_t align, size_t size)
{
	if (align % sizeof(void *) || align & (align - 1) || !align)
		return EINVAL;
	void *p = born(__libc_memalign(align, size));
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

void *valloc(size_t size)
{
	return memalign(4096, size);
}

void *pvalloc(size_t size);
void *pvalloc(size_t size)
{
	return memalign(4096, (size + 4095) & ~(size_t)4095);
}

static char boundary[64];

__attribute__((constructor)) static void start(void)
{
	const char *name = getenv("COUNTER_BOUNDARY"), *out = getenv("COUNTER_OUT");
	if (name && strlen(name) < sizeof boundary)
		strcpy(boundary, name);
	unsetenv("LD_PRELOAD"); /* the program's children are not counted */
	int fd = out ? open(out, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
	if (fd < 0)
		return;
	void *page = ftruncate(fd, 4096) ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return;
	madvise(page, 4096, MADV_DONTFORK);
	*(struct tally *)page = nowhere;
	tally = page;
}

static void forked(void)
{
	tally = &nowhere; /* a child counts nowhere */
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forked);
}

static void passed(const char *name)
{
	if (!strcmp(boundary, name) && on_boundary_thread())
		__atomic_fetch_add(&tally->boundaries, 1, __ATOMIC_ACQ_REL);
}

/* The function that the wrapper stands for; SDL may be out of the wrapper's search order. */
static void *real(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name), *sdl;
	if (!found && (sdl = dlopen("libSDL2-2.0.so.0", RTLD_LAZY | RTLD_NOLOAD)))
		found = dlsym(sdl, name);
	return found;
}

#define REAL(type, name)                                                                                               \
	static __typeof__(type) *next;                                                                                 \
	if (!next)                                                                                                     \
		next = (__typeof__(type) *)real(#name);                                                                \
	passed(#name)

int nanosleep(const struct timespec *wanted, struct timespec *left)
{
	REAL(int(const struct timespec *, struct timespec *), nanosleep);
	return next(wanted, left);
}

int usleep(useconds_t us)
{
	struct timespec wanted = {us / 1000000, us % 1000000 * 1000};
	return nanosleep(&wanted, NULL);
}

unsigned sleep(unsigned seconds)
{
	struct timespec wanted = {seconds, 0}, left = {0, 0};
	return nanosleep(&wanted, &left) ? (unsigned)left.tv_sec : 0;
}

void SDL_GL_SwapWindow(void *window);
void SDL_GL_SwapWindow(void *window)
{
	REAL(void(void *), SDL_GL_SwapWindow);
	next(window);
}

void SDL_RenderPresent(void *renderer);
void SDL_RenderPresent(void *renderer)
{
	REAL(void(void *), SDL_RenderPresent);
	next(renderer);
}
