/*
 * Displaced instructions. A function is refused rather than guessed about: the bytes taken must be whole instructions
 * of its own (or the padding behind it), and no branch that can be seen may lead into their middle.
 *
 * Calls are rewritten to push the return address that they would have pushed in place, so that unwinders find the
 * function they know and not our copy. They therefore must be the last instruction taken.
 */
#include "core/mark/patch_relocate.h"

#include <string.h>

#include "core/mark/decode.h"

#define INSTRUCTION_MAX_BYTES 15
#define FUNCTION_ALIGNMENT 16

static const char too_short[] = "too short";
static const char undecodable[] = "its first bytes are no instructions that the disassembler knows";
static const char jumped_into[] = "a jump target lies inside its first bytes";
static const char loops_to_start[] = "a loop of its own jumps back to its first instruction";
static const char looks_inside[] = "it refers to its own first bytes";
static const char breakpoint[] = "a breakpoint stands in its first bytes";
static const char unmovable[] = "its first bytes hold a branch that can't be moved";
static const char out_of_reach[] = "an operand of its first instructions is out of reach";
static const char early_call[] = "it calls through a pointer in its very first bytes";

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool decode_at(uintptr_t address, uintptr_t limit, struct instruction *out)
{
	return address < limit &&
	       decode((const uint8_t *)address, smaller(limit - address, INSTRUCTION_MAX_BYTES), address, out);
}

/* Bytes from `end` on, at most `wanted`, that belong to nobody: int3, or nops up to the next aligned address, where the
   next function may start. */
static size_t padding_at(uintptr_t end, uintptr_t limit, size_t wanted)
{
	uintptr_t aligned = (end + FUNCTION_ALIGNMENT - 1) & ~(uintptr_t)(FUNCTION_ALIGNMENT - 1), at = end;
	struct instruction instruction;
	while (at < end + wanted && decode_at(at, limit, &instruction) && instruction.pads &&
	       (instruction.ends || at + instruction.length <= aligned))
		at += instruction.length;
	return at - end;
}

/* Looks at every branch and every address in the function. An undecodable byte (data between code) is stepped over: a false
   instruction found that way can only refuse too much. */
static const char *check_targets(const struct displaced *displaced, uintptr_t address, uintptr_t end)
{
	uintptr_t first = displaced->start, past = displaced_end(displaced);
	for (uintptr_t at = address; at < end;) {
		struct instruction instruction;
		if (!decode_at(at, end, &instruction)) {
			at++;
			continue;
		}
		bool branch = instruction.kind >= INSTRUCTION_CALL && instruction.kind <= INSTRUCTION_JUMP_COUNTING;
		if (branch && instruction.target > first && instruction.target < past)
			return jumped_into;
		if (branch && !instruction.calls && (instruction.target == first || instruction.target == address))
			return loops_to_start;
		if (instruction.kind == INSTRUCTION_RIP_RELATIVE && instruction.target > first &&
		    instruction.target < past)
			return looks_inside;
		at += instruction.length;
	}
	return NULL;
}

const char *displaced_measure(uintptr_t address, size_t size, size_t readable, struct displaced *out)
{
	uintptr_t limit = address + readable, end = size ? address + smaller(size, readable) : limit;
	struct instruction instruction;
	*out = (struct displaced){.start = address};
	if (!decode_at(address, limit, &instruction))
		return undecodable;
	if (instruction.endbr)
		out->start += instruction.length;
	while (out->bytes < PATCH_JUMP_BYTES) {
		uintptr_t at = out->start + out->bytes;
		if (out->ends || at >= end) {
			/* The function is over. */
			if (!out->ends)
				return too_short;
			size_t missing = PATCH_JUMP_BYTES - out->bytes;
			out->padding = padding_at(at, limit, missing);
			if (out->padding < missing)
				return too_short;
			break;
		}
		if (!decode_at(at, limit, &instruction))
			return undecodable;
		if (at + instruction.length > end)
			return undecodable;
		if (instruction.kind == INSTRUCTION_UNMOVABLE)
			return unmovable;
		/* A debugger's, who would look for it here and put back what it replaced. */
		if (instruction.pads && instruction.ends)
			return breakpoint;
		out->bytes += instruction.length;
		out->ends = instruction.ends;
		if (instruction.calls && out->bytes < PATCH_JUMP_BYTES)
			return early_call;
		if (instruction.calls && instruction.stack_base)
			return unmovable;
	}
	/* A function of unknown size is looked at as far as what is displaced; extent.c has usually found the size. */
	return check_targets(out, address, size ? end : out->start + out->bytes);
}

struct assembler {
	uint8_t *out;
	size_t length;
	uintptr_t at; /* run-time address of out */
	bool overflow;
};

static void emit(struct assembler *code, const void *bytes, size_t length)
{
	if (length > RELOCATED_MAX_BYTES - code->length) {
		code->overflow = true;
		return;
	}
	memcpy(code->out + code->length, bytes, length);
	code->length += length;
}

static void emit_byte(struct assembler *code, uint8_t byte)
{
	emit(code, &byte, 1);
}

static void emit_value(struct assembler *code, uint64_t value, size_t bytes)
{
	emit(code, &value, bytes);
}

/* Distance from the end of a field of 4 bytes that comes next; false when it doesn't fit. */
static bool distance32(const struct assembler *code, size_t bytes_to_end, uintptr_t target, uint32_t *distance)
{
	int64_t value = (int64_t)(target - (code->at + code->length + bytes_to_end));
	*distance = (uint32_t)value;
	return value == (int32_t)value;
}

/* jmp target: rel32 when near enough, else through a pointer behind it. */
static void emit_jump(struct assembler *code, uintptr_t target)
{
	uint32_t distance;
	if (distance32(code, 5, target, &distance)) {
		emit_byte(code, 0xe9);
		emit_value(code, distance, 4);
		return;
	}
	emit(code, "\xff\x25\0\0\0\0", 6);
	emit_value(code, target, 8);
}

/* push of a 64-bit constant without a register: two halves; flags stay. */
static void emit_push(struct assembler *code, uintptr_t value)
{
	emit_byte(code, 0x68); /* push imm32, sign-extended */
	emit_value(code, (uint32_t)value, 4);
	emit(code, "\xc7\x44\x24\x04", 4); /* mov dword [rsp+4], imm32 */
	emit_value(code, (uint32_t)(value >> 32), 4);
}

static void emit_jump_if(struct assembler *code, uint8_t condition, uintptr_t target)
{
	uint32_t distance;
	if (distance32(code, 6, target, &distance)) {
		emit_byte(code, 0x0f);
		emit_byte(code, 0x80 | condition);
		emit_value(code, distance, 4);
		return;
	}
	emit_byte(code, 0x70 | (condition ^ 1)); /* the opposite, over the jump */
	emit_byte(code, 14);
	emit(code, "\xff\x25\0\0\0\0", 6);
	emit_value(code, target, 8);
}

/* loop and jrcxz reach 127 bytes only: they lead to a jump that stands beside them. */
static void emit_jump_counting(struct assembler *code, const struct instruction *instruction, const uint8_t *bytes)
{
	emit(code, bytes, instruction->operand_at);
	emit_byte(code, 2);
	emit_byte(code, 0xeb);
	size_t over = code->length;
	emit_byte(code, 0);
	emit_jump(code, instruction->target);
	code->out[over] = (uint8_t)(code->length - over - 1);
}

static const char *emit_rip_relative(struct assembler *code, const struct instruction *instruction,
				     const uint8_t *bytes)
{
	size_t start = code->length;
	uint32_t distance;
	emit(code, bytes, instruction->length);
	int64_t value = (int64_t)(instruction->target - (code->at + code->length));
	distance = (uint32_t)value;
	if (code->overflow || value != (int32_t)value)
		return out_of_reach;
	memcpy(code->out + start + instruction->operand_at, &distance, sizeof distance);
	return NULL;
}

/* call [operand] becomes: push of the return address, then jmp [operand] (ModRM /2 to /4, the same operand). */
static const char *emit_indirect_call(struct assembler *code, const struct instruction *instruction,
				      const uint8_t *bytes, uintptr_t address)
{
	emit_push(code, address + instruction->length);
	size_t start = code->length;
	const char *reason = NULL;
	if (instruction->kind == INSTRUCTION_RIP_RELATIVE)
		reason = emit_rip_relative(code, instruction, bytes);
	else
		emit(code, bytes, instruction->length);
	for (size_t i = start; !reason && !code->overflow && i + 1 < code->length; i++)
		if (code->out[i] == 0xff) {
			if ((code->out[i + 1] >> 3 & 7) != 2)
				return unmovable; /* a far call */
			code->out[i + 1] ^= (0x2 ^ 0x4) << 3;
			return NULL;
		}
	return reason ? reason : unmovable;
}

static const char *relocate_one(struct assembler *code, const struct instruction *instruction, uintptr_t address)
{
	const uint8_t *bytes = (const uint8_t *)address;
	if (instruction->calls && instruction->kind != INSTRUCTION_CALL)
		return emit_indirect_call(code, instruction, bytes, address);
	switch (instruction->kind) {
	case INSTRUCTION_PLAIN:
		emit(code, bytes, instruction->length);
		return NULL;
	case INSTRUCTION_RIP_RELATIVE:
		return emit_rip_relative(code, instruction, bytes);
	case INSTRUCTION_CALL:
		emit_push(code, address + instruction->length);
		emit_jump(code, instruction->target);
		return NULL;
	case INSTRUCTION_JUMP:
		emit_jump(code, instruction->target);
		return NULL;
	case INSTRUCTION_JUMP_IF:
		emit_jump_if(code, instruction->condition, instruction->target);
		return NULL;
	case INSTRUCTION_JUMP_COUNTING:
		emit_jump_counting(code, instruction, bytes);
		return NULL;
	case INSTRUCTION_UNMOVABLE:
		break;
	}
	return unmovable;
}

const char *displaced_relocate(const struct displaced *displaced, uintptr_t at, uint8_t *out, size_t *length)
{
	struct assembler code = {.out = out, .at = at};
	uintptr_t end = displaced->start + displaced->bytes;
	bool returns_by_itself = false;
	for (uintptr_t address = displaced->start; address < end;) {
		struct instruction instruction;
		if (!decode_at(address, end, &instruction))
			return undecodable;
		const char *reason = relocate_one(&code, &instruction, address);
		if (reason)
			return reason;
		returns_by_itself = instruction.calls;
		address += instruction.length;
	}
	/* A call's pushed return address leads back already. */
	if (!displaced->ends && !returns_by_itself)
		emit_jump(&code, end);
	*length = code.length;
	return code.overflow ? out_of_reach : NULL;
}
