/*
 * Test-only preload: patches a random share of all functions of the program and its libraries with counting markers, and
 * writes at exit how that went. Libc is left out, since the test's own code runs on it, and so are ld.so and ourselves.
 * Functions come from the symbol tables and, where those are stripped, from the unwind table.
 * BATCH_OUT: file; BATCH_SEED: any number; BATCH_SHARE: functions in 10,000; BATCH_KIND: entry or around; BATCH_ONLY: the
 * functions asked for are those between the first and the second number of `first-second`, in the order met (bisecting).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/mark/extent.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/mark/symbols.h"

#define SLOTS ((size_t)1 << 20)
#define REASONS_MAX 32
#define TABLE_BYTES 12 /* .eh_frame_hdr before its table */

struct tally {
	uint64_t calls, leaves;
};

static uintptr_t *seen;
static struct tally *tallies;
static uint64_t functions, asked, bound, spent_ns, next_tally;
static uint64_t seed, share, only_first, only_last = UINT64_MAX;
static bool around;
static int out = -1;
static pid_t owner;

static struct {
	const char *reason;
	uint64_t count;
} refused[REASONS_MAX];

__attribute__((target("general-regs-only"))) static void on_entry(void *context, const uintptr_t *fp)
{
	(void)fp;
	__atomic_fetch_add(&((struct tally *)context)->calls, 1, __ATOMIC_RELAXED);
}

__attribute__((target("general-regs-only"))) static bool on_enter(void *context, const uintptr_t *fp, bool returns)
{
	on_entry(context, fp);
	return returns;
}

__attribute__((target("general-regs-only"))) static void on_leave(void *context, const uintptr_t *fp)
{
	(void)fp;
	__atomic_fetch_add(&((struct tally *)context)->leaves, 1, __ATOMIC_RELAXED);
}

static uint64_t mixed(uint64_t value)
{
	value = (value ^ value >> 31) * 0x7fb5d329728ea185u;
	value = (value ^ value >> 27) * 0x81dadef4bc2dd44du;
	return value ^ value >> 33;
}

static bool first_time(uintptr_t address)
{
	size_t at = mixed(address) % SLOTS;
	for (; seen[at]; at = (at + 1) % SLOTS)
		if (seen[at] == address)
			return false;
	seen[at] = address;
	return true;
}

static void count_refused(const char *reason)
{
	size_t i = 0;
	while (i < REASONS_MAX - 1 && refused[i].reason && refused[i].reason != reason)
		i++;
	refused[i].reason = reason;
	refused[i].count++;
}

static void consider(const struct image *image, uintptr_t address, size_t size)
{
	struct mark_function function = {
		.address = address, .size = size, .module_base = image->base, .module_path = image->name};
	const char *reason = NULL;
	if (!image_executable(image, address, 1) || !first_time(address))
		return;
	functions++;
	if (mixed(mixed(seed) + (address - image->base)) % 10000 >= share)
		return;
	uint64_t number = asked++;
	if (number < only_first || number > only_last)
		return;
	struct tally *tally = &tallies[next_tally++];
	if (around ? patch_around(&function, on_enter, on_leave, tally, false, &reason)
		   : patch_entry(&function, on_entry, tally, &reason)) {
		count_refused(reason);
		if (getenv("BATCH_VERBOSE"))
			dprintf(out, "refused %s+0x%lx %s\n", image->name, address - image->base, reason);
	} else {
		bound++;
		if (getenv("BATCH_VERBOSE"))
			dprintf(out, "bound %lu %s+0x%lx size %zu\n", number, image->name, address - image->base, size);
	}
}

static bool visit_symbol(void *context, const struct image *image, const char *name, const Elf64_Sym *symbol)
{
	(void)context, (void)name;
	if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC)
		consider(image, image->base + symbol->st_value, symbol->st_size);
	return true;
}

static void visit_extents(const struct image *image)
{
	const uint8_t *table = NULL;
	for (size_t i = 0; i < image->phdr_count; i++)
		if (image->phdr[i].p_type == PT_GNU_EH_FRAME)
			table = (const uint8_t *)(image->base + image->phdr[i].p_vaddr);
	const int32_t *entry = table ? (const int32_t *)(table + TABLE_BYTES) : NULL;
	for (uint32_t left = table ? *(const uint32_t *)(table + 8) : 0; left--; entry += 2) {
		uintptr_t address = (uintptr_t)table + (uintptr_t)(intptr_t)*entry, start;
		size_t size;
		if (extent_find(image, address, &start, &size) && start == address)
			consider(image, address, 0);
	}
}

static bool visit_image(void *context, const struct image *image)
{
	uintptr_t here = (uintptr_t)&visit_image;
	struct symbols_visitor visitor = {visit_symbol, NULL};
	(void)context;
	if ((here >= image->start && here < image->end) || image_is_linker(image) || image_ignored(image) ||
	    strstr(image->name, "/libc.so"))
		return true;
	symbols_each(image, &visitor);
	visit_extents(image);
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *zeroed(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return map == MAP_FAILED ? NULL : map;
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("BATCH_OUT"), *kind = getenv("BATCH_KIND"), *only = getenv("BATCH_ONLY");
	char *second;
	if (!path)
		return;
	unsetenv("LD_PRELOAD"); /* this program only, not what it starts */
	seed = number_from("BATCH_SEED", 1);
	share = number_from("BATCH_SHARE", 100);
	around = kind && !strcmp(kind, "around");
	if (only) {
		only_first = strtoull(only, &second, 10);
		only_last = *second ? strtoull(second + 1, NULL, 10) : only_first;
	}
	seen = zeroed(SLOTS * sizeof *seen);
	tallies = zeroed(SLOTS * sizeof *tallies);
	out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	owner = getpid();
	if (out < 0 || !seen || !tallies || patch_init())
		abort();
	uint64_t start = now_ns();
	image_each(visit_image, NULL);
	patch_release();
	spent_ns = now_ns() - start;
}

__attribute__((destructor)) static void end(void)
{
	uint64_t calls = 0, leaves = 0;
	if (out < 0 || getpid() != owner)
		return;
	for (uint64_t i = 0; i < next_tally; i++) {
		calls += tallies[i].calls;
		leaves += tallies[i].leaves;
	}
	dprintf(out, "functions %lu\nasked %lu\nbound %lu\ncalls %lu\nleaves %lu\nmicroseconds %lu\n", functions, asked,
		bound, calls, leaves, spent_ns / 1000);
	for (size_t i = 0; i < REASONS_MAX && refused[i].reason; i++)
		dprintf(out, "reason %lu %s\n", refused[i].count, refused[i].reason);
}
