/* Helpers of base.h. The lock follows the usual test-and-set with back-off; its owner field is what makes a signal
   handler's second attempt fail instead of hanging. */
#define _GNU_SOURCE
#include "core/base.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static __thread uint32_t cached_tid;

uint32_t base_tid(void)
{
	if (unlikely(!cached_tid))
		cached_tid = (uint32_t)syscall(SYS_gettid);
	return cached_tid;
}

void base_forget_tid(void)
{
	cached_tid = 0;
}

#define HELD_MAX 8
static __thread struct base_lock *held[HELD_MAX];
static __thread uint32_t held_count;

void base_unlock_all(void)
{
	while (held_count) {
		uint32_t own = base_tid();
		if (--held_count < HELD_MAX)
			atomic_compare_exchange_strong(&held[held_count]->owner, &own, 0);
	}
}

#define PAUSES 64

/* Whether `owner`, interrupted while it held what this thread wants, waits in a signal handler for what this thread has. */
static bool waits_for_us(uint32_t owner)
{
	for (uint32_t i = 0; i < held_count && i < HELD_MAX; i++)
		if (owner && held[i]->by_handlers && atomic_load_explicit(&held[i]->waiter, memory_order_relaxed) == owner)
			return true;
	return false;
}

bool base_lock(struct base_lock *lock)
{
	uint32_t self = base_tid();
	for (unsigned spins = 0;; spins++) {
		uint32_t expected = 0;
		if (atomic_compare_exchange_weak_explicit(&lock->owner, &expected, self, memory_order_acquire,
		                                          memory_order_relaxed)) {
			if (held_count < HELD_MAX)
				held[held_count] = lock;
			held_count++;
			expected = self;
			if (lock->by_handlers)
				atomic_compare_exchange_strong(&lock->waiter, &expected, 0);
			return true;
		}
		if (expected == self || waits_for_us(expected))
			return false;
		if (lock->by_handlers) /* each time anew: others wait too */
			atomic_store_explicit(&lock->waiter, self, memory_order_relaxed);
		if (spins < PAUSES)
			__builtin_ia32_pause();
		else
			syscall(SYS_sched_yield);
	}
}

void base_unlock(struct base_lock *lock)
{
	atomic_store_explicit(&lock->owner, 0, memory_order_release);
	held_count--;
}

int base_open(const char *path, int flags, unsigned mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

long base_read(int fd, void *out, size_t bytes)
{
	return syscall(SYS_read, fd, out, bytes);
}

void base_close(int fd)
{
	syscall(SYS_close, fd);
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
