/*
 * Whether a function looks at its caller's outgoing stack arguments. Every instruction is decoded beside its unwind row,
 * which says how far the stack pointer, or rbp where that is the frame's base, lies below the caller's stack pointer.
 * Jumps that leave the function (its cold part, a tail call) are followed; what can't be followed may look anywhere.
 */
#include "core/mark/arguments.h"

#include "core/mark/decode.h"
#include "core/mark/extent.h"
#include "core/mark/image.h"
#include "core/path/cfi.h"

#define RANGES_MAX 16
#define INSTRUCTIONS_MAX 20000
#define INSTRUCTION_BYTES 15

struct ranges {
	struct image image;
	struct {
		uintptr_t start, end;
	} range[RANGES_MAX];
	size_t count;
	size_t instructions;
};

static bool add_range(struct ranges *ranges, uintptr_t target)
{
	uintptr_t start;
	size_t size;
	for (size_t i = 0; i < ranges->count; i++)
		if (target >= ranges->range[i].start && target < ranges->range[i].end)
			return true;
	if (ranges->count == RANGES_MAX || !extent_find(&ranges->image, target, &start, &size))
		return false;
	ranges->range[ranges->count].start = start;
	ranges->range[ranges->count++].end = start + size;
	return true;
}

/* Whether the operand lies at or above the caller's stack pointer, or may. */
static bool looks_up(const struct instruction *instruction, struct cfi_row row)
{
	if (instruction->base == INSTRUCTION_BASE_SP)
		return row.kind != CFI_SP || instruction->displacement >= row.cfa;
	if (instruction->base == INSTRUCTION_BASE_FP)
		return row.kind == CFI_FP ? instruction->displacement >= row.cfa : row.kind != CFI_SP;
	return false;
}

static bool range_looks_up(struct ranges *ranges, size_t index)
{
	uintptr_t at = ranges->range[index].start, end = ranges->range[index].end;
	while (at < end) {
		struct instruction instruction;
		size_t left = end - at < INSTRUCTION_BYTES ? end - at : INSTRUCTION_BYTES;
		if (++ranges->instructions > INSTRUCTIONS_MAX || !decode((const uint8_t *)at, left, at, &instruction))
			return true;
		if (instruction.base != INSTRUCTION_BASE_NONE && looks_up(&instruction, cfi_row_of(at, true)))
			return true;
		bool jumps = instruction.kind >= INSTRUCTION_JUMP && instruction.kind <= INSTRUCTION_JUMP_COUNTING;
		if (instruction.kind == INSTRUCTION_UNMOVABLE || instruction.jumps_anywhere ||
		    (jumps && !add_range(ranges, instruction.target)))
			return true;
		at += instruction.length;
	}
	return false;
}

bool arguments_on_stack(uintptr_t address)
{
	struct ranges ranges = {.count = 0};
	if (!image_of(address, &ranges.image) || !add_range(&ranges, address))
		return true;
	for (size_t i = 0; i < ranges.count; i++)
		if (range_looks_up(&ranges, i))
			return true;
	return false;
}
