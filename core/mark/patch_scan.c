/*
 * Finding jumps without decoding everything. The whole text is searched for 4-byte distances that lead into the few bytes
 * asked about, behind an opcode of a branch. What is found may be another instruction's operand: it is decoded from the
 * start of its function. One-byte distances reach 128 bytes; there instructions are decoded at once.
 *
 * A module that is asked about more than a few times gets an index of all branches (patch_index.c).
 *
 * Large texts are read from their file in windows that a cache holds: touching them in memory would raise the target's resident
 * size, and mapping them takes as long as searching them.
 */
#define _GNU_SOURCE
#include "core/mark/patch_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base.h"
#include "core/mark/decode.h"
#include "core/mark/extent.h"
#include "core/mark/patch_index.h"

#define SHORT_REACH 128
#define INSTRUCTION_MAX_BYTES 15
#define IN_MEMORY_BYTES ((size_t)4 << 20)
#define WINDOW_BYTES ((size_t)64 << 10)
#define STRADDLE_BYTES 16 /* read behind a window, so that no distance is cut in two */
#define PIECE_BYTES ((size_t)32 << 10) /* less than a distance's lower half counts, by much more than 32 */
#define JUMP_OPCODE 0xe9 /* what patches begin with */
#define TABLE_ENTRIES_MAX 4096
#define INDEXED_MODULES 256
#define SEARCHES_BEFORE_INDEX 2

/* Modules searched since scan_release. */
static struct searched {
	uintptr_t start, end; /* the module's */
	unsigned searches;
	bool indexed, refused; /* no memory for an index */
	struct patch_index index;
} searched[INDEXED_MODULES];

static bool is_branch_opcode(const uint8_t *distance, const uint8_t *code)
{
	uint8_t last = distance > code ? distance[-1] : 0, before = distance > code + 1 ? distance[-2] : 0;
	return last == 0xe8 || last == 0xe9 || ((last & 0xf0) == 0x80 && before == 0x0f);
}

/* Where the code that is searched runs; NULL for what was moved. */
struct origin {
	const struct image *image;
	const struct scan_patches *patches;
};

/* Whether the distance at `place` is a branch's. True in doubt: code without unwind information, or that can't be read. */
static bool is_of_branch(const struct origin *origin, uintptr_t place)
{
	uintptr_t at;
	size_t size;
	if (!origin || !extent_find(origin->image, place, &at, &size))
		return true;
	uintptr_t end = at + size;
	while (at <= place) {
		struct instruction instruction;
		size_t left = end - at < INSTRUCTION_MAX_BYTES ? end - at : INSTRUCTION_MAX_BYTES;
		size_t replaced = *(const uint8_t *)at == JUMP_OPCODE ? origin->patches->displaced_at(at) : 0;
		if (!replaced && !decode((const uint8_t *)at, left, at, &instruction))
			return true;
		size_t length = replaced ? replaced : instruction.length;
		if (place < at + length)
			return !replaced && instruction.kind >= INSTRUCTION_CALL &&
			       instruction.kind <= INSTRUCTION_JUMP_COUNTING && at + instruction.operand_at == place;
		at += length;
	}
	return true;
}

/* The distance at code + i, looked at closely. */
static bool leads_inside(const uint8_t *code, size_t i, uintptr_t address, const struct displaced *displaced,
			 const struct origin *origin)
{
	int32_t distance;
	memcpy(&distance, code + i, sizeof distance);
	uintptr_t at = address + i, target = at + 4 + (uintptr_t)(intptr_t)distance, past = displaced_end(displaced);
	bool own = at >= displaced->start && at < past;
	return !own && target > displaced->start && target < past && is_branch_opcode(code + i, code) &&
	       is_of_branch(origin, at);
}

typedef uint32_t four __attribute__((vector_size(16)));

static always_inline four load_four(const uint8_t *at)
{
	four value;
	memcpy(&value, at, sizeof value);
	return value;
}

static always_inline bool is_any(four value)
{
	uint64_t half[2];
	memcpy(half, &value, sizeof half);
	return half[0] | half[1];
}

/* Whether a distance at one of the 16 places from code + i on leads there, opcode or not: a target less than 32 bytes behind the
   start has nothing but zeros above its low five bits. */
static bool any_of_16(const uint8_t *code, size_t i, uint32_t bias)
{
	uint32_t first = bias + (uint32_t)i;
	four offset = {first, first + 4, first + 8, first + 12}, hit = {0};
	for (uint32_t phase = 0; phase < 4; phase++)
		hit |= (four)((load_four(code + i + phase) + offset + phase) >> 5 == 0);
	return is_any(hit);
}

typedef uint16_t eight __attribute__((vector_size(16)));

/* Whether the upper half of a distance there is `half` or the one after it: what those of a piece that lead there begin with. */
static always_inline bool any_of_16_begins(const uint8_t *code, eight half)
{
	eight even, odd;
	memcpy(&even, code + 2, sizeof even);
	memcpy(&odd, code + 3, sizeof odd);
	return is_any((four)((even == half) | (even == half + 1) | (odd == half) | (odd == half + 1)));
}

static bool scan_bytes(const uint8_t *code, size_t bytes, uintptr_t address, const struct displaced *displaced,
		       const struct origin *origin)
{
	uint32_t bias = (uint32_t)(address + 4 - displaced->start);
	size_t i = 0;
	while (i + 19 <= bytes) {
		size_t past = bytes - 18 - i > PIECE_BYTES ? i + PIECE_BYTES : bytes - 18;
		uint32_t least = 0 - bias - (uint32_t)past - 16; /* of the distances in this piece that lead there */
		eight half = (eight){0} + (uint16_t)(least >> 16);
		for (; i < past; i += 16) {
			if (likely(!any_of_16_begins(code + i, half)) || likely(!any_of_16(code, i, bias)))
				continue;
			for (size_t place = i; place < i + 16; place++)
				if (leads_inside(code, place, address, displaced, origin))
					return true;
		}
	}
	for (; i + 4 <= bytes; i++)
		if (leads_inside(code, i, address, displaced, origin))
			return true;
	return false;
}

_Static_assert(PATCH_JUMP_BYTES - 1 + INSTRUCTION_MAX_BYTES < 32, "displaced bytes");

/* What is done with each piece of a segment: `bytes` of code at `code` that run at `address`, `readable` from there on.
   True: no more pieces are wanted. */
struct piece_visitor {
	bool (*visit)(void *context, const uint8_t *code, size_t bytes, size_t readable, uintptr_t address);
	void *context;
};

/* The file may have been replaced since it was mapped: its first page must be the one in memory. */
static bool file_is_of(const struct image *image, const uint8_t *first)
{
	for (size_t i = 0; i < image->phdr_count; i++)
		if (image->phdr[i].p_type == PT_LOAD && !image->phdr[i].p_offset &&
		    image->phdr[i].p_filesz >= PAGE_BYTES)
			return !(image->phdr[i].p_flags & PF_W) &&
			       !memcmp(first, (const uint8_t *)(image->base + image->phdr[i].p_vaddr), PAGE_BYTES);
	return false;
}

static int open_file(const struct image *image)
{
	int fd = base_open(image->main_program ? "/proc/self/exe" : image->name, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	void *first = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	bool same = first != MAP_FAILED && file_is_of(image, first);
	if (first != MAP_FAILED)
		munmap(first, PAGE_BYTES);
	if (same)
		return fd;
	base_close(fd);
	return -1;
}

static bool read_whole(int fd, uint8_t *into, size_t bytes, uint64_t offset)
{
	for (size_t got = 0; got < bytes;) {
		long more = base_pread(fd, into + got, bytes - got, offset + got);
		if (more > 0)
			got += (size_t)more;
		else if (!more || errno != EINTR)
			return false;
	}
	return true;
}

/* 1: stopped, 0: done; -1 when the file can't be read. */
static int each_window(int fd, uint8_t *window, const Elf64_Phdr *segment, uintptr_t address,
		       const struct piece_visitor *visitor)
{
	for (size_t at = 0; at < segment->p_filesz; at += WINDOW_BYTES) {
		size_t left = segment->p_filesz - at, bytes = left < WINDOW_BYTES ? left : WINDOW_BYTES;
		size_t readable = left < bytes + STRADDLE_BYTES ? left : bytes + STRADDLE_BYTES;
		if (!read_whole(fd, window, readable, segment->p_offset + at))
			return -1;
		if (visitor->visit(visitor->context, window, bytes, readable, address + at))
			return 1;
	}
	return 0;
}

/* As each_window. */
static int each_piece_of_file(const struct image *image, const Elf64_Phdr *segment, const struct piece_visitor *visitor)
{
	const size_t room = WINDOW_BYTES + PAGE_BYTES;
	int fd = open_file(image), stopped = -1;
	if (fd < 0)
		return -1;
	uint8_t *window = base_map(room);
	if (window) {
		base_fill(window, room);
		stopped = each_window(fd, window, segment, image->base + segment->p_vaddr, visitor);
		munmap(window, room);
	}
	base_close(fd);
	return stopped;
}

static bool each_piece(const struct image *image, const struct piece_visitor *visitor)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *segment = &image->phdr[i];
		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		uintptr_t start = image->base + segment->p_vaddr;
		int stopped = -1;
		if (segment->p_filesz > IN_MEMORY_BYTES)
			stopped = each_piece_of_file(image, segment, visitor);
		if (stopped < 0)
			stopped = visitor->visit(visitor->context, (const uint8_t *)start, segment->p_filesz,
						 segment->p_filesz, start);
		if (stopped)
			return true;
	}
	return false;
}

struct search {
	const struct displaced *displaced;
	struct origin origin;
	bool found;
};

static bool search_piece(void *context, const uint8_t *code, size_t bytes, size_t readable, uintptr_t address)
{
	struct search *search = context;
	(void)bytes;
	search->found |= scan_bytes(code, readable, address, search->displaced, &search->origin);
	return search->found;
}

static void search_moved(void *context, const uint8_t *code, size_t bytes)
{
	struct search *search = context;
	search->found |= scan_bytes(code, bytes, (uintptr_t)code, search->displaced, NULL);
}

static bool search_all(const struct image *image, const struct displaced *displaced, const struct scan_patches *patches)
{
	struct search search = {.displaced = displaced, .origin = {image, patches}};
	struct piece_visitor visitor = {search_piece, &search};
	patches->each_moved(image->start, image->end, search_moved, &search);
	return search.found || each_piece(image, &visitor);
}

static bool index_piece(void *context, const uint8_t *code, size_t bytes, size_t readable, uintptr_t address)
{
	index_add(context, code, bytes, readable, address);
	return false;
}

static void index_moved(void *context, const uint8_t *code, size_t bytes)
{
	index_add(context, code, bytes, bytes, (uintptr_t)code);
}

static struct searched *searched_of(const struct image *image)
{
	for (size_t i = 0; i < INDEXED_MODULES; i++) {
		struct searched *one = &searched[i];
		if (!one->end)
			*one = (struct searched){.start = image->start, .end = image->end};
		if (one->start == image->start && one->end == image->end)
			return one;
	}
	return NULL;
}

/* NULL while searching once more is cheaper. */
static const struct patch_index *index_of(const struct image *image, const struct scan_patches *patches)
{
	struct searched *one = searched_of(image);
	struct piece_visitor visitor = {index_piece, one ? &one->index : NULL};
	if (!one || one->refused || one->searches++ < SEARCHES_BEFORE_INDEX)
		return NULL;
	if (!one->indexed) {
		one->indexed = index_make(&one->index, image);
		one->refused = !one->indexed;
		if (one->refused)
			return NULL;
		each_piece(image, &visitor);
		patches->each_moved(image->start, image->end, index_moved, &one->index);
	}
	return &one->index;
}

void scan_release(void)
{
	for (size_t i = 0; i < INDEXED_MODULES && searched[i].end; i++) {
		if (searched[i].indexed)
			index_free(&searched[i].index);
		searched[i] = (struct searched){.searches = 0};
	}
}

bool scan_entry_inside(const struct image *image, const struct displaced *displaced)
{
	uintptr_t first = displaced->start, past = displaced_end(displaced), start;
	size_t size;
	if (extent_find(image, past - 1, &start, &size) && start > first)
		return true;
	for (size_t i = 0; i < INDEXED_MODULES && searched[i].end; i++)
		if (searched[i].indexed && searched[i].start == image->start)
			return index_entry_between(&searched[i].index, first, past);
	size_t count = image->symbols ? image_symbol_count(image) : 0;
	for (size_t i = 0; i < count; i++) {
		uintptr_t address = image->base + image->symbols[i].st_value;
		if (address > first && address < past && symbol_is_entry(&image->symbols[i]))
			return true;
	}
	return false;
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

static bool is_short_branch(uint8_t opcode)
{
	return (opcode & 0xf0) == 0x70 || opcode == 0xeb || (opcode & 0xfc) == 0xe0;
}

/* Could any byte be the distance of a short jump that leads there? Most often none: nothing needs decoding then. */
static bool short_jump_possible(uintptr_t from, uintptr_t to, const struct displaced *displaced)
{
	uintptr_t past = displaced_end(displaced);
	for (uintptr_t at = from; at + 1 < to; at++) {
		const uint8_t *code = (const uint8_t *)at;
		uintptr_t target = at + 2 + (uintptr_t)(intptr_t)(int8_t)code[1];
		if (is_short_branch(code[0]) && target > displaced->start && target < past)
			return true;
	}
	return false;
}

/* Short jumps of the neighbours. The function itself has been looked at whole, by displaced_measure. */
static bool scan_near(const struct image *image, uintptr_t from, uintptr_t to, const struct displaced *displaced,
		      const struct scan_patches *patches)
{
	uintptr_t past = displaced_end(displaced);
	if (!short_jump_possible(from, to, displaced))
		return false;
	for (uintptr_t at = decode_from(image, from); at < to;) {
		struct instruction instruction;
		size_t replaced = *(const uint8_t *)at == JUMP_OPCODE ? patches->displaced_at(at) : 0;
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

static bool scan_neighbours(const struct image *image, const struct displaced *displaced,
			    const struct scan_patches *patches)
{
	uintptr_t past = displaced_end(displaced);
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *segment = &image->phdr[i];
		uintptr_t start = image->base + segment->p_vaddr, end = start + segment->p_filesz;
		if (segment->p_type != PT_LOAD || displaced->start < start || displaced->start >= end)
			continue;
		uintptr_t before = displaced->start - start > SHORT_REACH ? displaced->start - SHORT_REACH : start;
		uintptr_t after = end - past > SHORT_REACH ? past + SHORT_REACH : end;
		return scan_near(image, before, displaced->start, displaced, patches) ||
		       scan_near(image, past, after, displaced, patches);
	}
	return false;
}

bool scan_jumped_into(const struct image *image, const struct displaced *displaced, const struct scan_patches *patches)
{
	const struct patch_index *index = index_of(image, patches);
	bool found = !index || index_target_between(index, displaced->start, displaced_end(displaced));
	/* The index tells that something leads there, not what and from where. */
	if (found)
		found = search_all(image, displaced, patches);
	return found || scan_neighbours(image, displaced, patches);
}

/* Bytes of initialised data at `address`, 0 for code and for what is not the module's. */
static size_t data_at(const struct image *image, uintptr_t address)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *segment = &image->phdr[i];
		uintptr_t start = image->base + segment->p_vaddr;
		if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_X) && address >= start &&
		    address < start + segment->p_filesz)
			return start + segment->p_filesz - address;
	}
	return 0;
}

/* Both kinds of entries that compilers write: 4 bytes from the table's start, and addresses. A table ends where an entry
   leads out of the function. Entries for the first instruction itself count as well: the loop would be taken for calls. */
static bool table_leads_inside(const struct image *image, uintptr_t table, uintptr_t start, uintptr_t end,
			       const struct displaced *displaced)
{
	uintptr_t past = displaced_end(displaced);
	size_t bytes = data_at(image, table);
	for (size_t entry_bytes = 4; entry_bytes <= 8; entry_bytes += 4)
		for (size_t i = 0; i < TABLE_ENTRIES_MAX && (i + 1) * entry_bytes <= bytes; i++) {
			int64_t value = 0;
			memcpy(&value, (const uint8_t *)table + i * entry_bytes, entry_bytes);
			uintptr_t target =
				entry_bytes == 4 ? table + (uintptr_t)(intptr_t)(int32_t)value : (uintptr_t)value;
			if (target < start || target >= end)
				break;
			if (target < past)
				return true;
		}
	return false;
}

/* Decodes [start, end) for `wanted`, which says yes to end it. */
static bool any_instruction(uintptr_t start, uintptr_t end,
			    bool (*wanted)(void *context, const struct instruction *instruction), void *context)
{
	struct instruction instruction;
	for (uintptr_t at = start; at < end;) {
		size_t left = end - at < INSTRUCTION_MAX_BYTES ? end - at : INSTRUCTION_MAX_BYTES;
		if (!decode((const uint8_t *)at, left, at, &instruction)) {
			at++;
			continue;
		}
		if (wanted(context, &instruction))
			return true;
		at += instruction.length;
	}
	return false;
}

static bool is_indirect_jump(void *context, const struct instruction *instruction)
{
	(void)context;
	return instruction->jumps_anywhere && instruction->kind != INSTRUCTION_RIP_RELATIVE;
}

struct tables {
	const struct image *image;
	uintptr_t start, end;
	const struct displaced *displaced;
};

static bool is_table_that_leads_inside(void *context, const struct instruction *instruction)
{
	const struct tables *tables = context;
	uintptr_t table = instruction->kind == INSTRUCTION_RIP_RELATIVE ? instruction->target : instruction->table;
	return table && table_leads_inside(tables->image, table, tables->start, tables->end, tables->displaced);
}

bool scan_tables(const struct image *image, uintptr_t start, uintptr_t end, const struct displaced *displaced)
{
	struct tables tables = {image, start, end, displaced};
	return any_instruction(start, end, is_indirect_jump, NULL) &&
	       any_instruction(start, end, is_table_that_leads_inside, &tables);
}
