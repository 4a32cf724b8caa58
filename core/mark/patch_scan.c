/*
 * Finding jumps without decoding everything. A 4-byte distance that leads into the few bytes asked about, behind an
 * opcode of a branch, is as good as never chance (one in 2^32 per byte of code and target), so the whole text is
 * searched for that. One-byte distances reach 128 bytes; there, and only there, instructions are decoded.
 *
 * Large texts are read from their file in windows: touching them in memory would raise the target's resident size.
 */
#define _GNU_SOURCE
#include "core/mark/patch_scan.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"
#include "core/mark/decode.h"
#include "core/mark/extent.h"

#define SHORT_REACH 128
#define INSTRUCTION_MAX_BYTES 15
#define IN_MEMORY_BYTES ((size_t)4 << 20)
#define WINDOW_BYTES ((size_t)1 << 20)
#define PAGE_BYTES ((size_t)4096)

static bool is_branch_opcode(const uint8_t *distance, const uint8_t *code)
{
	uint8_t last = distance > code ? distance[-1] : 0, before = distance > code + 1 ? distance[-2] : 0;
	return last == 0xe8 || last == 0xe9 || ((last & 0xf0) == 0x80 && before == 0x0f);
}

/* The distance at code + i, looked at closely. */
static bool leads_inside(const uint8_t *code, size_t i, uintptr_t address, const struct displaced *displaced)
{
	int32_t distance;
	memcpy(&distance, code + i, sizeof distance);
	uintptr_t at = address + i, target = at + 4 + (uintptr_t)(intptr_t)distance,
		  past = displaced->start + displaced->bytes;
	bool own = at >= displaced->start && at < past;
	return !own && target > displaced->start && target < past && is_branch_opcode(code + i, code);
}

typedef uint32_t four __attribute__((vector_size(16)));

static always_inline four load_four(const uint8_t *at)
{
	four value;
	memcpy(&value, at, sizeof value);
	return value;
}

/* 16 places at a time: a target less than 32 bytes behind the start has nothing but zeros above its low five bits. */
bool scan_bytes(const uint8_t *code, size_t bytes, uintptr_t address, const struct displaced *displaced)
{
	uint32_t bias = (uint32_t)(address + 4 - displaced->start);
	size_t i = 0;
	for (; i + 19 <= bytes; i += 16) {
		uint32_t first = bias + (uint32_t)i;
		four offset = {first, first + 4, first + 8, first + 12}, hit = {0};
		for (uint32_t phase = 0; phase < 4; phase++)
			hit |= (four)((load_four(code + i + phase) + offset + phase) >> 5 == 0);
		uint64_t any[2];
		memcpy(any, &hit, sizeof any);
		if (likely(!(any[0] | any[1])))
			continue;
		for (size_t place = i; place < i + 16; place++)
			if (leads_inside(code, place, address, displaced))
				return true;
	}
	for (; i + 4 <= bytes; i++)
		if (leads_inside(code, i, address, displaced))
			return true;
	return false;
}

_Static_assert(PATCH_JUMP_BYTES - 1 + INSTRUCTION_MAX_BYTES < 32, "displaced bytes");

/* 1 or 0; -1 when the file can't be read. */
static int scan_file(const struct image *image, const Elf64_Phdr *segment, const struct displaced *displaced)
{
	int fd = open(image->main_program ? "/proc/self/exe" : image->name, O_RDONLY | O_CLOEXEC), found = 0;
	if (fd < 0)
		return -1;
	off_t skew = (off_t)(segment->p_offset % PAGE_BYTES);
	for (off_t at = 0; at < (off_t)segment->p_filesz && !found; at += (off_t)WINDOW_BYTES) {
		/* A little more than the window, so that no distance is cut in two. */
		size_t bytes = WINDOW_BYTES + 16, left = segment->p_filesz - (size_t)at;
		if (bytes > left)
			bytes = left;
		off_t offset = (off_t)segment->p_offset + at - skew;
		uint8_t *map = mmap(NULL, bytes + (size_t)skew, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, offset);
		if (map == MAP_FAILED) {
			found = -1;
			break;
		}
		found = scan_bytes(map + skew, bytes, image->base + segment->p_vaddr + (uintptr_t)at, displaced);
		munmap(map, bytes + (size_t)skew);
	}
	close(fd);
	return found;
}

static bool scan_segment(const struct image *image, const Elf64_Phdr *segment, const struct displaced *displaced)
{
	if (segment->p_filesz > IN_MEMORY_BYTES) {
		int found = scan_file(image, segment, displaced);
		if (found >= 0)
			return found;
	}
	uintptr_t start = image->base + segment->p_vaddr;
	return scan_bytes((const uint8_t *)start, segment->p_filesz, start, displaced);
}

/* Where to begin decoding so that instructions come out whole: at the function that holds `address`. */
static uintptr_t decode_from(const struct image *image, uintptr_t address)
{
	uintptr_t start;
	size_t size;
	if (extent_find(image, address, &start, &size))
		return start;
	return address & ~(uintptr_t)15;
}

/* Short jumps of the neighbours. The function itself has been looked at whole, by displaced_measure. */
static bool scan_near(const struct image *image, uintptr_t from, uintptr_t to, const struct displaced *displaced,
		      size_t (*displaced_at)(uintptr_t address))
{
	uintptr_t past = displaced->start + displaced->bytes;
	for (uintptr_t at = decode_from(image, from); at < to;) {
		struct instruction instruction;
		size_t replaced = displaced_at(at);
		if (replaced ||
		    !decode((const uint8_t *)at, to - at < INSTRUCTION_MAX_BYTES ? to - at : INSTRUCTION_MAX_BYTES, at,
			    &instruction)) {
			at += replaced ? replaced : 1;
			continue;
		}
		bool branch = instruction.kind >= INSTRUCTION_CALL && instruction.kind <= INSTRUCTION_JUMP_COUNTING;
		if (branch && (at < displaced->start || at >= past) && instruction.target > displaced->start &&
		    instruction.target < past)
			return true;
		at += instruction.length;
	}
	return false;
}

bool scan_jumped_into(const struct image *image, const struct displaced *displaced,
		      size_t (*displaced_at)(uintptr_t address))
{
	uintptr_t past = displaced->start + displaced->bytes;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *segment = &image->phdr[i];
		uintptr_t start = image->base + segment->p_vaddr, end = start + segment->p_filesz;
		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		if (scan_segment(image, segment, displaced))
			return true;
		if (displaced->start < start || displaced->start >= end)
			continue;
		uintptr_t before = displaced->start - start > SHORT_REACH ? displaced->start - SHORT_REACH : start;
		uintptr_t after = end - past > SHORT_REACH ? past + SHORT_REACH : end;
		if (scan_near(image, before, displaced->start, displaced, displaced_at) ||
		    scan_near(image, past, after, displaced, displaced_at))
			return true;
	}
	return false;
}
