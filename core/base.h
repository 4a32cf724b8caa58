/* What every in-target file may use: branch hints, small arithmetic, a lock that signal handlers and forks survive, and
   string helpers that need no libc state. Nothing here allocates, prints or changes errno. */
#ifndef FA_BASE_H
#define FA_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define cold_path __attribute__((noinline, cold))
/* Data that hot paths read: no way round by the global offset table. */
#define own_data __attribute__((visibility("hidden")))
#define always_inline inline __attribute__((always_inline))

#ifdef FA_DEBUG
#define fa_assert(x)                                                                                                   \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			__builtin_trap();                                                                              \
	} while (0)
#else
#define fa_assert(x) ((void)0)
#endif

#define PAGE_BYTES ((size_t)4096)

static always_inline size_t round_up(size_t value, size_t power_of_two)
{
	return (value + power_of_two - 1) & ~(power_of_two - 1);
}

/*
 * A spin lock that knows its owner: taking it again on the same thread (a signal handler that allocates while its
 * thread is inside) fails instead of dead-locking. Held briefly and never across a hook. In the child of a fork nobody holds
 * one any more (base_child). Waiting for it is base_wait.
 */
struct base_lock {
	_Atomic uint32_t owner; /* tid, and how many forks lie between the first process and this one; 0 = free */
};

/* False: this thread holds it already; or it must not wait, and another one holds it. Yields the processor while another
   thread holds it. */
bool base_lock(struct base_lock *lock);
void base_unlock(struct base_lock *lock);
bool base_owns(const struct base_lock *lock); /* this thread does */
/* Gives back whatever locks this thread holds: the operation that took them was left by a jump or a cancellation. */
void base_unlock_all(void);
/* True where this thread is inside base_lock or holds a lock: whoever finds that at the start of an operation is a signal
   handler that interrupted another one. */
bool base_holds_locks(void);
/*
 * In between a lock that another thread does not give up within some microseconds is not to be had. For a signal
 * handler inside an operation: what it interrupted may hold the very lock that the other thread waits for, one of
 * jemalloc's or the loader's as well. Such operations nest; the end of the outermost one is the end.
 */
void base_hurry_begin(void);
void base_hurry_end(void);
bool base_hurries(void);
uint32_t base_tid(void);
/* In the child of a fork, before any lock is asked for: its thread is another one, which holds none. */
void base_child(void);
void base_child_thread(void); /* the same for a thread of the child, where another one has called that */
uint32_t base_forks(void); /* that this process is away from the first: tells what its parents had open */

/* One turn of waiting for what another thread does, the `turn`-th in a row, from 0: it pauses at first, then lets others run
   whose priority is not lower, then sleeps. A thread of real-time priority that only yielded would keep the one that it
   waits for from running, on the same processor. errno is preserved. */
void base_wait(unsigned turn);

/* open, read, pread and close that are no cancellation points: a hook must not be where a cancelled thread ends. As the system
   calls, with errno. */
int base_open(const char *path, int flags, unsigned mode);
long base_read(int fd, void *out, size_t bytes);
long base_pread(int fd, void *out, size_t bytes, uint64_t offset);
void base_close(int fd);

#define BASE_NO_SIGNALS 0u
/* What an instruction itself raises, which is fatal where it is kept out: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS. */
#define BASE_SIGNALS_OF_CODE (1u << 3 | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 30)
/* Keeps the program's signals out of this thread, but for some, until they are let in again. glibc's own two stay as they are: its
   pthread_sigmask would let them in for good, and a thread of its timers waits for one. */
uint64_t base_shut_signals(uint32_t but);
void base_let_signals(uint64_t before);

/* From now on, and in children, a system call that no allocator needs may be fatal. */
void base_spare_calls(void);
bool base_spares_calls(void);

/* Zeroed memory for a table, which takes memory page by page as it is touched. NULL: there is none. munmap gives it back. */
void *base_map(size_t bytes);
/* The same, which reads zero in the child of a fork. */
void *base_map_wiped(size_t bytes);
/* The program locks what is mapped from now on: base_map's stays out of that, or it would be filled. */
void base_maps_are_locked(void);
/* What lies there is sparse: pages stay small, also where the system's default are huge ones. Whole pages. */
void base_keep_small(void *memory, size_t bytes);

/* Asks for memory that is about to be written all at once, with the pages that it begins and ends in: a fault for each takes
   longer. No effect where the kernel is older than 5.14, where there is not enough, and in a sandbox. Async-signal-safe, errno
   is preserved. */
void base_fill(void *memory, size_t bytes);
/* The same for what is used from its start on, a page or two at a time, and may not be used to its end: as much as is in use
   already, of `most` bytes in all and 64 KiB at once. `filled`: what this said before, or 0. Returns where the next call has
   something to do. */
size_t base_fill_ahead(void *memory, size_t used, size_t filled, size_t most);

/* Whether the page of an address can be read; one system call. Async-signal-safe. */
bool base_page_readable(uintptr_t address);

/* Where the first thread's stack lies and what the kernel keeps free for it to grow into, at least as its limit stands now. It is
   asked of nobody: whoever opens a file for it may wait for a lock of stdio's, or overflow a small stack. */
struct base_stretch {
	uintptr_t low, high;
};
struct base_stretch base_first_stack(void);

uint64_t base_now_ns(void);
size_t base_text_length(const char *text);
/* Copies with truncation, always terminates; returns the number of bytes copied without the NUL. */
size_t base_text_copy(char *out, size_t out_bytes, const char *text);
bool base_text_equal(const char *a, const char *b);
/* Shell pattern with * and ?. */
bool base_glob_match(const char *pattern, const char *text);
/* What stands behind the last slash, and whether a pattern fits that or the whole path. */
const char *base_file_name(const char *path);
bool base_path_match(const char *pattern, const char *path);
char *base_text_number(char *out, uint64_t value); /* writes decimal digits, returns the end, not terminated */

/* One line to standard error by a single write, without stdio: "framealloc: TEXT\n". */
void base_say(const char *text);

#endif
