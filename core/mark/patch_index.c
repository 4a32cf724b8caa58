/*
 * Built in one pass over the code, 16 bytes at a time: which of them are opcodes of a branch with a 4-byte distance?
 * Bytes that only look like one set false bits: most lead out of the module, the rest refuse what could be patched, as
 * rarely as the search without an index does.
 */
#define _GNU_SOURCE
#include "core/mark/patch_index.h"

#include <emmintrin.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base.h"

#define DISTANCE_BYTES 4

static size_t map_words(const struct patch_index *index)
{
	return (index->past - index->start + 63) / 64;
}

static void set_bit(uint64_t *map, uintptr_t bit)
{
	map[bit / 64] |= (uint64_t)1 << bit % 64;
}

bool index_make(struct patch_index *index, const struct image *image)
{
	*index = (struct patch_index){.start = UINTPTR_MAX};
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *segment = &image->phdr[i];
		uintptr_t start = image->base + segment->p_vaddr;
		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		if (start < index->start)
			index->start = start;
		if (start + segment->p_memsz > index->past)
			index->past = start + segment->p_memsz;
	}
	if (index->start >= index->past)
		return false;
	size_t words = map_words(index);
	void *maps = base_map(2 * words * sizeof(uint64_t));
	if (!maps)
		return false;
	index->target = maps;
	index->entry = index->target + words;
	size_t count = image->symbols ? image_symbol_count(image) : 0;
	for (size_t i = 0; i < count; i++) {
		const Elf64_Sym *symbol = &image->symbols[i];
		uintptr_t bit = image->base + symbol->st_value - index->start;
		if (bit < index->past - index->start && symbol_is_entry(symbol))
			set_bit(index->entry, bit);
	}
	return true;
}

void index_free(struct patch_index *index)
{
	munmap(index->target, 2 * map_words(index) * sizeof(uint64_t));
}

/* Bit n: code[n] is the last byte of an opcode that a distance follows. `code` has a byte before it. */
static always_inline uint32_t opcodes_at(const uint8_t *code)
{
	__m128i here = _mm_loadu_si128((const __m128i *)code), before = _mm_loadu_si128((const __m128i *)(code - 1));
	__m128i call = _mm_cmpeq_epi8(_mm_and_si128(here, _mm_set1_epi8((char)0xfe)), _mm_set1_epi8((char)0xe8));
	__m128i jcc = _mm_cmpeq_epi8(_mm_and_si128(here, _mm_set1_epi8((char)0xf0)), _mm_set1_epi8((char)0x80));
	__m128i escape = _mm_cmpeq_epi8(before, _mm_set1_epi8(0x0f));
	return (uint32_t)_mm_movemask_epi8(_mm_or_si128(call, _mm_and_si128(jcc, escape)));
}

static always_inline void add_distance(struct patch_index *index, const uint8_t *distance, uintptr_t address)
{
	int32_t value;
	memcpy(&value, distance, sizeof value);
	uintptr_t bit = address + DISTANCE_BYTES + (uintptr_t)(intptr_t)value - index->start;
	if (bit < index->past - index->start)
		set_bit(index->target, bit);
}

static void add_one(struct patch_index *index, const uint8_t *code, size_t i, uintptr_t address)
{
	bool call = (code[i] & 0xfe) == 0xe8, jcc = (code[i] & 0xf0) == 0x80 && i && code[i - 1] == 0x0f;
	if (call || jcc)
		add_distance(index, code + i + 1, address + i + 1);
}

void index_add(struct patch_index *index, const uint8_t *code, size_t bytes, size_t readable, uintptr_t address)
{
	/* The first byte behind it too: an opcode of two bytes may begin with its last. */
	size_t whole = readable > DISTANCE_BYTES ? readable - DISTANCE_BYTES : 0,
	       past = whole <= bytes ? whole : bytes + 1;
	size_t i = 0;
	if (past)
		add_one(index, code, i++, address);
	for (; i + 16 <= past; i += 16)
		for (uint32_t found = opcodes_at(code + i); found; found &= found - 1) {
			size_t at = i + (size_t)__builtin_ctz(found) + 1;
			add_distance(index, code + at, address + at);
		}
	for (; i < past; i++)
		add_one(index, code, i, address);
}

static bool any_between(const uint64_t *map, const struct patch_index *index, uintptr_t first, uintptr_t past)
{
	for (uintptr_t address = first + 1; address < past; address++) {
		uintptr_t bit = address - index->start;
		if (bit < index->past - index->start && map[bit / 64] >> bit % 64 & 1)
			return true;
	}
	return false;
}

bool index_target_between(const struct patch_index *index, uintptr_t first, uintptr_t past)
{
	return any_between(index->target, index, first, past);
}

bool index_entry_between(const struct patch_index *index, uintptr_t first, uintptr_t past)
{
	return any_between(index->entry, index, first, past);
}
