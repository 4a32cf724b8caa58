/* The disassembler (Zydis 4). Only the patcher asks, while markers are bound. */
#define _GNU_SOURCE
#include "core/mark/decode.h"

#include <Zydis/Zydis.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

#include "core/library.h"

static ZydisDecoder decoder;
static __typeof__(&ZydisDecoderDecodeInstruction) decode_instruction;

int decode_init(void)
{
	if (decode_instruction)
		return 0;
	char soname[32]; /* of the version that the headers describe: others number their constants otherwise */
	snprintf(soname, sizeof soname, "libZydis.so.%u.%u", (unsigned)ZYDIS_VERSION_MAJOR(ZYDIS_VERSION),
		 (unsigned)ZYDIS_VERSION_MINOR(ZYDIS_VERSION));
	void *library = library_open(soname);
	if (!library)
		return -ENOENT;
	__typeof__(&ZydisDecoderInit) init = (__typeof__(init))dlsym(library, "ZydisDecoderInit");
	__typeof__(decode_instruction) found = (__typeof__(found))dlsym(library, "ZydisDecoderDecodeInstruction");
	if (!init || !found || !ZYAN_SUCCESS(init(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return -ENOENT;
	decode_instruction = found;
	return 0;
}

static enum instruction_kind branch_kind(const ZydisDecodedInstruction *raw)
{
	unsigned bits = raw->raw.imm[0].size;
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_CALL:
		return bits == 32 ? INSTRUCTION_CALL : INSTRUCTION_UNMOVABLE;
	case ZYDIS_MNEMONIC_JMP:
		return bits == 8 || bits == 32 ? INSTRUCTION_JUMP : INSTRUCTION_UNMOVABLE;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
		return INSTRUCTION_JUMP_COUNTING;
	default:
		/* 70-7F and 0F 80-8F are the conditional jumps; xbegin is the other relative one of its category. */
		if (raw->meta.category != ZYDIS_CATEGORY_COND_BR || raw->mnemonic == ZYDIS_MNEMONIC_XBEGIN)
			return INSTRUCTION_UNMOVABLE;
		return bits == 8 || bits == 32 ? INSTRUCTION_JUMP_IF : INSTRUCTION_UNMOVABLE;
	}
}

static bool never_continues(const ZydisDecodedInstruction *raw)
{
	switch (raw->mnemonic) {
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return true;
	default:
		return raw->meta.category == ZYDIS_CATEGORY_RET || raw->meta.category == ZYDIS_CATEGORY_UNCOND_BR;
	}
}

/* Memory operands based on rsp or rbp, and copies of rsp into other registers than rbp (whose unwind row tells). */
static void read_base(const ZydisDecodedInstruction *raw, struct instruction *out)
{
	if (!(raw->attributes & ZYDIS_ATTRIB_HAS_MODRM) || out->pads)
		return;
	/* Other encodings keep their extension bits elsewhere: theirs are taken for rsp and rbp, which errs on the safe side. */
	bool legacy = raw->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	unsigned extension = legacy ? raw->raw.rex.B << 3 : 0;
	unsigned mod = raw->raw.modrm.mod, rm = raw->raw.modrm.rm | extension;
	if (mod == 3) {
		unsigned reg = raw->raw.modrm.reg | (legacy ? raw->raw.rex.R << 3 : 0);
		bool from_sp = raw->mnemonic == ZYDIS_MNEMONIC_MOV && ((raw->opcode == 0x89 && reg == 4 && rm != 5) ||
								       (raw->opcode == 0x8b && rm == 4 && reg != 5));
		if (from_sp)
			out->base = INSTRUCTION_BASE_SP, out->displacement = INT32_MAX;
		return;
	}
	unsigned base = raw->raw.modrm.rm == 4 ? raw->raw.sib.base | extension : rm;
	bool none = mod == 0 && (raw->raw.modrm.rm == 5 || (raw->raw.modrm.rm == 4 && raw->raw.sib.base == 5));
	if (none || (base != 4 && base != 5))
		return;
	out->base = base == 4 ? INSTRUCTION_BASE_SP : INSTRUCTION_BASE_FP;
	/* With an index it may reach anywhere. */
	bool indexed = raw->raw.modrm.rm == 4 && !(raw->raw.sib.index == 4 && !(legacy && raw->raw.rex.X));
	out->displacement = indexed ? INT32_MAX : (int32_t)raw->raw.disp.value;
}

bool decode(const uint8_t *bytes, size_t available, uintptr_t address, struct instruction *out)
{
	ZydisDecodedInstruction raw;
	if (!decode_instruction || !ZYAN_SUCCESS(decode_instruction(&decoder, NULL, bytes, available, &raw)))
		return false;
	*out = (struct instruction){.length = raw.length, .ends = never_continues(&raw)};
	out->pads = raw.mnemonic == ZYDIS_MNEMONIC_NOP || raw.mnemonic == ZYDIS_MNEMONIC_INT3;
	out->endbr = raw.mnemonic == ZYDIS_MNEMONIC_ENDBR64;
	out->calls = raw.meta.category == ZYDIS_CATEGORY_CALL;
	uintptr_t next = address + raw.length;
	bool has_modrm = raw.attributes & ZYDIS_ATTRIB_HAS_MODRM;
	if (raw.raw.imm[0].is_relative) {
		out->kind = branch_kind(&raw);
		out->operand_at = raw.raw.imm[0].offset;
		out->operand_bytes = raw.raw.imm[0].size / 8;
		out->condition = raw.opcode & 15;
		out->target = next + (uintptr_t)raw.raw.imm[0].value.s;
	} else if (has_modrm && raw.raw.modrm.mod == 0 && raw.raw.modrm.rm == 5 && !out->pads) {
		out->kind = raw.address_width == 64 ? INSTRUCTION_RIP_RELATIVE : INSTRUCTION_UNMOVABLE;
		out->operand_at = raw.raw.disp.offset;
		out->operand_bytes = 4;
		out->target = next + (uintptr_t)raw.raw.disp.value;
	}
	if (has_modrm && raw.raw.modrm.mod == 0 && raw.raw.modrm.rm == 4 && raw.raw.sib.base == 5)
		out->table = (uintptr_t)raw.raw.disp.value;
	out->jumps_anywhere = raw.meta.category == ZYDIS_CATEGORY_UNCOND_BR && !raw.raw.imm[0].is_relative;
	read_base(&raw, out);
	/* call [rsp + x] reads below what a pushed return address moves. */
	out->stack_base =
		out->calls && has_modrm && raw.raw.modrm.rm == 4 && (raw.raw.modrm.mod == 3 || raw.raw.sib.base == 4);
	return true;
}
