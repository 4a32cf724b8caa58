/*
 * Code memory near a module. Free address ranges are found by asking for them (MAP_FIXED_NOREPLACE never displaces
 * anything), so this works without /proc. Below the module comes first: above the main program lies its heap.
 */
#define _GNU_SOURCE
#include "core/mark/near.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/base.h"

#define ARENA_BYTES ((size_t)64 << 10)
#define ARENA_DOUBLINGS 6 /* a module's further arenas are each twice as large, up to this often */
#define ARENAS_MAX 64
#define REACH_BYTES ((uintptr_t)0x7ff00000) /* of a signed 32-bit distance, less what a stub may be long */
#define LONG_STRIDE ((uintptr_t)1 << 20)
#define LOWEST_ADDRESS ((uintptr_t)0x10000)
#define LINE_BYTES ((size_t)64)

struct arena {
	uintptr_t start;
	size_t bytes, used;
};

static struct arena arenas[ARENAS_MAX];
static size_t arena_count;

static bool reaches(uintptr_t at, size_t bytes, uintptr_t start, uintptr_t end)
{
	uintptr_t lowest = at < start ? at : start, highest = at + bytes > end ? at + bytes : end;
	return highest - lowest < REACH_BYTES;
}

/* What the first thread's stack may grow into is nobody's, as far as the kernel tells: with a randomised layout it is far away. */
static bool is_stacks(uintptr_t at, size_t bytes)
{
	struct base_stretch stack = base_first_stack();
	return at < stack.high && at + bytes > stack.low;
}

static bool map_at(uintptr_t at, size_t bytes)
{
	if (is_stacks(at, bytes))
		return false;
	void *got = mmap((void *)at, bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			 -1, 0);
	if (got == MAP_FAILED)
		return false;
	if (got != (void *)at) { /* a kernel that does not know the flag */
		munmap(got, bytes);
		return false;
	}
	return true;
}

static uintptr_t map_near(uintptr_t start, uintptr_t end, size_t bytes)
{
	uintptr_t below = (start - bytes) & ~(ARENA_BYTES - 1);
	/* From the far end: what is just above the main program is for its heap to grow into. */
	uintptr_t above = (start + REACH_BYTES - bytes - ARENA_BYTES) & ~(ARENA_BYTES - 1);
	bool is_left_below = true, is_left_above = true;
	/* In turn, once it is not close: all that can be reached on one side may be one mapping, such as the shim's own region. */
	for (uintptr_t stride = ARENA_BYTES; is_left_below || is_left_above;) {
		is_left_below =
			is_left_below && below >= LOWEST_ADDRESS && below < start && reaches(below, bytes, start, end);
		if (is_left_below && map_at(below, bytes))
			return below;
		below -= stride;
		if (stride < LONG_STRIDE) {
			stride *= 2;
			continue;
		}
		is_left_above = is_left_above && above > end && above < UINTPTR_MAX - REACH_BYTES;
		if (is_left_above && reaches(above, bytes, start, end) && map_at(above, bytes))
			return above;
		above -= LONG_STRIDE;
	}
	for (above = round_up(end, ARENA_BYTES); above - end < LONG_STRIDE; above += ARENA_BYTES)
		if (reaches(above, bytes, start, end) && map_at(above, bytes))
			return above;
	return 0;
}

static struct arena *arena_with_room(uintptr_t start, uintptr_t end, size_t bytes)
{
	size_t reaching = 0;
	for (size_t i = 0; i < arena_count; i++) {
		if (!reaches(arenas[i].start, arenas[i].bytes, start, end))
			continue;
		if (arenas[i].used + bytes <= arenas[i].bytes)
			return &arenas[i];
		reaching++;
	}
	if (arena_count == ARENAS_MAX)
		return NULL;
	size_t wanted = ARENA_BYTES << (reaching < ARENA_DOUBLINGS ? reaching : ARENA_DOUBLINGS);
	uintptr_t at = map_near(start, end, wanted);
	if (!at)
		at = map_near(start, end, wanted = ARENA_BYTES);
	if (!at)
		return NULL;
	arenas[arena_count] = (struct arena){.start = at, .bytes = wanted};
	return &arenas[arena_count++];
}

void *near_reserve(uintptr_t start, uintptr_t end, size_t bytes)
{
	int saved = errno;
	bytes = round_up(bytes, LINE_BYTES);
	struct arena *arena = arena_with_room(start, end, bytes);
	errno = saved;
	if (!arena)
		return NULL;
	void *block = (void *)(arena->start + arena->used);
	arena->used += bytes;
	return block;
}

void near_shrink(void *block, size_t bytes, size_t kept)
{
	uintptr_t end = (uintptr_t)block + round_up(bytes, LINE_BYTES);
	for (size_t i = 0; i < arena_count; i++)
		if (arenas[i].start + arenas[i].used == end)
			arenas[i].used -= round_up(bytes, LINE_BYTES) - round_up(kept, LINE_BYTES);
}

/* The system calls by hand, and the copy by an instruction: the page written may hold libc's versions of them. */
static always_inline long raw_mprotect(uintptr_t at, size_t bytes, int protection)
{
	register long result __asm__("rax") = SYS_mprotect;
	__asm__ volatile("syscall"
			 : "+r"(result)
			 : "D"(at), "S"(bytes), "d"((long)protection)
			 : "rcx", "r11", "memory");
	return result;
}

static always_inline void raw_copy(void *to, const void *from, size_t bytes)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

/* One store when the bytes fit into an aligned word: whoever runs there sees the old code or the new. */
static always_inline void store_code(uint8_t *at, const uint8_t *bytes, size_t length)
{
	uintptr_t word = (uintptr_t)at & ~(uintptr_t)7;
	if ((uintptr_t)at + length > word + 8) {
		raw_copy(at, bytes, length);
		return;
	}
	uint64_t value = *(volatile uint64_t *)word;
	raw_copy((uint8_t *)&value + ((uintptr_t)at - word), bytes, length);
	__atomic_store_n((uint64_t *)word, value, __ATOMIC_SEQ_CST);
}

/* Signal handlers may run any code, that of the page included. */
static always_inline long raw_block_signals(uint64_t *before)
{
	uint64_t all = ~(uint64_t)0;
	register long result __asm__("rax") = SYS_rt_sigprocmask;
	register long bytes __asm__("r10") = sizeof all;
	__asm__ volatile("syscall"
			 : "+r"(result)
			 : "D"((long)SIG_SETMASK), "S"(&all), "d"(before), "r"(bytes)
			 : "rcx", "r11", "memory");
	return result;
}

static always_inline void raw_restore_signals(const uint64_t *before)
{
	register long result __asm__("rax") = SYS_rt_sigprocmask;
	register long bytes __asm__("r10") = sizeof *before;
	__asm__ volatile("syscall"
			 : "+r"(result)
			 : "D"((long)SIG_SETMASK), "S"(before), "d"(NULL), "r"(bytes)
			 : "rcx", "r11", "memory");
}

/* Executable throughout. Other threads run what lies beside, stubs or code of the module. And where policy lets no page
   become executable again, the first call fails and all is as it was, instead of the second one, which would leave the
   program without a page of its code. */
int near_write(void *at, const void *bytes, size_t length)
{
	uintptr_t first = (uintptr_t)at & ~(PAGE_BYTES - 1);
	size_t span = round_up((uintptr_t)at + length - first, PAGE_BYTES);
	uint64_t signals;
	long blocked = raw_block_signals(&signals);
	bool written = !raw_mprotect(first, span, PROT_READ | PROT_WRITE | PROT_EXEC);
	if (written)
		store_code(at, bytes, length);
	raw_mprotect(first, span, PROT_READ | PROT_EXEC); /* a refusal may have come after the first of two mappings */
	if (!blocked)
		raw_restore_signals(&signals);
	return written ? 0 : -EACCES;
}
