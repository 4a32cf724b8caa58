/* Helpers of base.h. The lock follows the usual test-and-set with back-off; its owner field is what makes a signal
   handler's second attempt fail instead of hanging. */
#define _GNU_SOURCE
#include "core/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define FILL_AHEAD_LEAST (2 * PAGE_BYTES) /* in use: the first two pages come by themselves */
#define FILL_AHEAD_MOST (16 * PAGE_BYTES)

/* libc's, but for whoever asks within this library, jemalloc too: another preloaded library may have one of its own (torsocks),
   which allocates, or waits for what it does while we are asked for memory. */
__asm__(".text\n.globl syscall\n.hidden syscall\n.type syscall, @function\nsyscall:\n.cfi_startproc\nendbr64\n"
	"mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\nmov %rcx, %rdx\nmov %r8, %r10\nmov %r9, %r8\n"
	"mov 8(%rsp), %r9\nsyscall\ncmp $-4095, %rax\njae 1f\nret\n"
	"1: neg %eax\npush %rax\n.cfi_adjust_cfa_offset 8\ncall __errno_location@PLT\n"
	"pop %rdx\n.cfi_adjust_cfa_offset -8\nmov %edx, (%rax)\nmov $-1, %rax\nret\n"
	".cfi_endproc\n.size syscall, .-syscall\n");

#define FORK_SHIFT 22 /* tids are lower: PID_MAX_LIMIT */
static __thread uint32_t cached_tid;
static uint32_t forks;

uint32_t base_tid(void)
{
	if (unlikely(!cached_tid))
		cached_tid = (uint32_t)syscall(SYS_gettid);
	return cached_tid;
}

#define HELD_MAX 8
static __thread struct base_lock *held[HELD_MAX];
static __thread uint32_t held_count; /* that of base_lock counts from before it is taken until after it is given back */
static __thread uint32_t hurries;

static uint32_t self_as_owner(void)
{
	return base_tid() | forks << FORK_SHIFT;
}

uint32_t base_forks(void)
{
	return forks;
}

void base_child_thread(void)
{
	cached_tid = held_count = hurries = 0;
}

void base_child(void)
{
	base_child_thread();
	forks++;
}

void base_unlock_all(void)
{
	hurries = 0;
	while (held_count) {
		uint32_t own = self_as_owner();
		if (--held_count < HELD_MAX && held[held_count])
			atomic_compare_exchange_strong(&held[held_count]->owner, &own, 0);
	}
}

bool base_holds_locks(void)
{
	return held_count != 0;
}

void base_hurry_begin(void)
{
	hurries++;
}

void base_hurry_end(void)
{
	hurries -= hurries != 0; /* the operation began before a fork */
}

bool base_hurries(void)
{
	return hurries != 0;
}

#define PAUSES 64
#define YIELDS 16
#define SLEEP_NS 50000
#define PAUSES_HURRIED 256

void base_wait(unsigned turn)
{
	if (turn < PAUSES) {
		__builtin_ia32_pause();
	} else if (turn < PAUSES + YIELDS && !base_spares_calls()) {
		syscall(SYS_sched_yield);
	} else { /* on a futex that nobody wakes: sandboxes of programs with threads allow that */
		static const uint32_t never;
		const struct timespec timeout = {0, SLEEP_NS};
		int saved = errno;
		syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0);
		errno = saved;
	}
}

/* Somebody has the lock, or had it before a fork. */
static cold_path bool lock_contended(struct base_lock *lock, uint32_t self)
{
	for (unsigned spins = 0;; spins++) {
		uint32_t owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);
		bool is_free = !owner || owner >> FORK_SHIFT != self >> FORK_SHIFT;
		if (is_free && atomic_compare_exchange_weak_explicit(&lock->owner, &owner, self, memory_order_acquire,
								     memory_order_relaxed))
			return true;
		if (owner == self || (hurries && spins == PAUSES_HURRIED))
			return false;
		base_wait(hurries ? 0 : spins);
	}
}

bool base_lock(struct base_lock *lock)
{
	uint32_t self = self_as_owner(), place = held_count, expected = 0;
	held_count = place + 1;
	atomic_signal_fence(memory_order_seq_cst);
	if (place < HELD_MAX)
		held[place] = lock;
	if (likely(atomic_compare_exchange_strong_explicit(&lock->owner, &expected, self, memory_order_acquire,
							   memory_order_relaxed)) ||
	    lock_contended(lock, self))
		return true;
	held_count = place;
	return false;
}

void base_unlock(struct base_lock *lock)
{
	atomic_store_explicit(&lock->owner, 0, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	held_count -= held_count != 0;
}

bool base_owns(const struct base_lock *lock)
{
	return atomic_load_explicit(&lock->owner, memory_order_relaxed) == self_as_owner();
}

int base_open(const char *path, int flags, unsigned mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

long base_read(int fd, void *out, size_t bytes)
{
	return syscall(SYS_read, fd, out, bytes);
}

long base_pread(int fd, void *out, size_t bytes, uint64_t offset)
{
	return syscall(SYS_pread64, fd, out, bytes, offset);
}

void base_close(int fd)
{
	syscall(SYS_close, fd);
}

#define SIGNALS_OF_GLIBC (3ull << 31) /* 32 and 33: SIGCANCEL, also its timers', and SIGSETXID */

static_assert(BASE_SIGNALS_OF_CODE == (1u << (SIGILL - 1) | 1u << (SIGTRAP - 1) | 1u << (SIGBUS - 1) |
				       1u << (SIGFPE - 1) | 1u << (SIGSEGV - 1) | 1u << (SIGSYS - 1)),
	      "a bit each");

uint64_t base_shut_signals(uint32_t but)
{
	uint64_t shut = ~(SIGNALS_OF_GLIBC | but), before = 0;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &shut, &before, sizeof shut);
	return before;
}

void base_let_signals(uint64_t before)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

static _Atomic bool spares_calls, asks_by_advice;

static long raw_call(long number, long a, long b, long c, long d)
{
	long result;
	register long fourth __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
			 : "rcx", "r11", "memory");
	return result;
}

static long populate(uintptr_t address)
{
	return raw_call(SYS_madvise, (long)(address & ~(PAGE_BYTES - 1)), PAGE_BYTES, MADV_POPULATE_READ, 0);
}

void base_spare_calls(void)
{
	bool known = !populate((uintptr_t)__builtin_frame_address(0)); /* by a kernel since 5.14 */
	atomic_store_explicit(&asks_by_advice, known, memory_order_relaxed);
	atomic_store_explicit(&spares_calls, true, memory_order_relaxed);
}

bool base_spares_calls(void)
{
	return atomic_load_explicit(&spares_calls, memory_order_relaxed);
}

static _Atomic bool fills_one_by_one;

void base_fill(void *memory, size_t bytes)
{
	if (atomic_load_explicit(&fills_one_by_one, memory_order_relaxed) || base_spares_calls())
		return;
	uintptr_t start = (uintptr_t)memory & -PAGE_BYTES, end = round_up((uintptr_t)memory + bytes, PAGE_BYTES);
	long result = raw_call(SYS_madvise, (long)start, (long)(end - start), MADV_POPULATE_WRITE, 0);
	/* -EINVAL also where the program has protected some of it: for nothing at all it tells of the kernel */
	if (result && result != -ENOMEM && raw_call(SYS_madvise, 0, 0, MADV_POPULATE_WRITE, 0))
		atomic_store_explicit(&fills_one_by_one, true, memory_order_relaxed);
}

size_t base_fill_ahead(void *memory, size_t used, size_t filled, size_t most)
{
	used = round_up(used, PAGE_BYTES);
	if (used < FILL_AHEAD_LEAST || used < filled || used >= most)
		return filled;
	size_t more = used < FILL_AHEAD_MOST ? used : FILL_AHEAD_MOST;
	if (more > most - used)
		more = most - used;
	base_fill((uint8_t *)memory + used, more);
	return used + more;
}

void base_keep_small(void *memory, size_t bytes)
{
	int saved = errno;
	madvise(memory, bytes, MADV_NOHUGEPAGE); /* fails where the kernel has no others */
	errno = saved;
}

static _Atomic bool maps_are_locked;

void base_maps_are_locked(void)
{
	atomic_store_explicit(&maps_are_locked, true, memory_order_relaxed);
}

/* Locked memory is filled when it is mapped, but for what nobody may use. */
static void *map_unlocked(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory != MAP_FAILED && (munlock(memory, bytes) || mprotect(memory, bytes, PROT_READ | PROT_WRITE))) {
		munmap(memory, bytes);
		return MAP_FAILED;
	}
	return memory;
}

void *base_map(size_t bytes)
{
	int saved = errno;
	void *memory =
		atomic_load_explicit(&maps_are_locked, memory_order_relaxed)
			? map_unlocked(bytes)
			: mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		memory = NULL;
	else
		base_keep_small(memory, bytes);
	errno = saved;
	return memory;
}

void *base_map_wiped(size_t bytes)
{
	int saved = errno;
	void *memory = base_map(bytes);
	if (memory)
		madvise(memory, bytes, MADV_WIPEONFORK);
	errno = saved;
	return memory;
}

/* rt_sigprocmask reads its set before it rejects the operation: EFAULT tells an unreadable address, nothing changes. madvise, which
   takes twice as long, is what an allocator needs; a filter that refuses just this advice is none that kills. */
bool base_page_readable(uintptr_t address)
{
	if (atomic_load_explicit(&asks_by_advice, memory_order_relaxed)) {
		long result = populate(address);
		if (result != -EPERM && result != -EACCES && result != -ENOSYS)
			return !result;
	}
	return raw_call(SYS_rt_sigprocmask, -1, (long)(address & -8), 0, 8) != -EFAULT;
}

#define STACK_ROOM_MIN (128ul << 20) /* of mmap_base in the kernel: it leaves so much below the stack */
#define STACK_ROOM_MAX (1ul << 30) /* no limit: nothing is mapped from above then */

struct base_stretch base_first_stack(void)
{
	struct rlimit limit;
	uintptr_t last = getauxval(AT_EXECFN), room = STACK_ROOM_MIN; /* the last that lies there, but for its end */
	if (!getrlimit(RLIMIT_STACK, &limit) && limit.rlim_cur > room)
		room = limit.rlim_cur < STACK_ROOM_MAX ? limit.rlim_cur : STACK_ROOM_MAX;
	uintptr_t high = round_up(last + 1, PAGE_BYTES);
	return (struct base_stretch){.low = high > room ? high - room : 0, .high = high};
}

uint64_t base_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

size_t base_text_length(const char *text)
{
	size_t length = 0;
	while (text[length])
		length++;
	return length;
}

size_t base_text_copy(char *out, size_t out_bytes, const char *text)
{
	size_t length = base_text_length(text);
	if (length >= out_bytes)
		length = out_bytes - 1;
	for (size_t i = 0; i < length; i++)
		out[i] = text[i];
	out[length] = 0;
	return length;
}

bool base_text_equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

bool base_glob_match(const char *pattern, const char *text)
{
	const char *star = NULL, *retry = NULL;
	while (*text) {
		if (*pattern == '*') {
			star = pattern++;
			retry = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star + 1;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

const char *base_file_name(const char *path)
{
	const char *name = path;
	for (; *path; path++)
		if (*path == '/')
			name = path + 1;
	return name;
}

bool base_path_match(const char *pattern, const char *path)
{
	return base_glob_match(pattern, base_file_name(path)) || base_glob_match(pattern, path);
}

char *base_text_number(char *out, uint64_t value)
{
	char digits[20];
	int n = 0;
	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		*out++ = digits[--n];
	return out;
}

void base_say(const char *text)
{
	char line[512];
	size_t at = base_text_copy(line, sizeof line - 1, "framealloc: ");
	at += base_text_copy(line + at, sizeof line - 1 - at, text);
	line[at++] = '\n';
	ssize_t ignored = syscall(SYS_write, 2, line, at);
	(void)ignored;
}
