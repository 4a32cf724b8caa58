/*
 * Static check of the patcher: every function of large libraries, by symbol and by unwind table, is measured, its
 * displaced instructions are relocated, and what came out is decoded again and compared with the original: the same bytes
 * but for addresses, which must lead to the same places, the same return addresses, and nothing added that writes flags.
 * That the comparison is strict is tried as well: in a sample of the copies every single bit is turned over, which must
 * be noticed. Prints how many functions can be patched and why others can't. Arguments: ELF files.
 * Sources: core/mark/patch_relocate.c core/mark/decode.c core/mark/image.c core/mark/extent.c
 * core/base.c core/library.c  Libs: -lZydis
 * (no sanitizer: it reads other programs' code)
 */
#define _GNU_SOURCE
#include <Zydis/Zydis.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mark/decode.h"
#include "core/mark/extent.h"
#include "core/mark/patch_relocate.h"

#define SAMPLED 16 /* one copy in so many is tried for strictness */

struct code {
	const uint8_t *bytes, *end;
	uintptr_t address; /* that of bytes */
};

struct one {
	ZydisDecodedInstruction instruction;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	uintptr_t address;
	const uint8_t *bytes;
};

static ZydisDecoder decoder;
static int mismatches;

static bool take(struct code *code, struct one *out)
{
	if (code->bytes >= code->end ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code->bytes, (ZyanUSize)(code->end - code->bytes),
						 &out->instruction, out->operands)))
		return false;
	out->address = code->address;
	out->bytes = code->bytes;
	code->bytes += out->instruction.length;
	code->address += out->instruction.length;
	return true;
}

static uintptr_t absolute(const struct one *one, int operand)
{
	ZyanU64 result = 0;
	ZydisCalcAbsoluteAddress(&one->instruction, &one->operands[operand], one->address, &result);
	return result;
}

static bool leaves_flags(const struct one *one)
{
	const ZydisAccessedFlags *flags = one->instruction.cpu_flags;
	return !flags || !(flags->modified | flags->set_0 | flags->set_1 | flags->undefined);
}

/* A jump in the copy: rel32, or through the 8 bytes behind it. */
static bool take_jump(struct code *code, uintptr_t *target)
{
	struct one one;
	if (!take(code, &one) || one.instruction.mnemonic != ZYDIS_MNEMONIC_JMP || !leaves_flags(&one))
		return false;
	if (one.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		*target = absolute(&one, 0);
		return true;
	}
	static const uint8_t through_pointer[] = {0xff, 0x25, 0, 0, 0, 0};
	if (one.instruction.length != sizeof through_pointer ||
	    memcmp(one.bytes, through_pointer, sizeof through_pointer) || code->end - code->bytes < 8)
		return false;
	memcpy(target, code->bytes, 8);
	code->bytes += 8;
	code->address += 8;
	return true;
}

static bool take_push(struct code *code, uintptr_t *value)
{
	struct one low, high;
	if (!take(code, &low) || low.instruction.mnemonic != ZYDIS_MNEMONIC_PUSH || low.instruction.length != 5 ||
	    !take(code, &high) || high.instruction.length != 8 || memcmp(high.bytes, "\xc7\x44\x24\x04", 4) ||
	    !leaves_flags(&low) || !leaves_flags(&high))
		return false;
	*value = (uint32_t)low.operands[0].imm.value.u | (uintptr_t)(uint32_t)high.operands[1].imm.value.u << 32;
	return true;
}

#define CALL_TO_JUMP 0x30 /* ModRM /2 and /4 */

/* The same instruction: of its bytes only a RIP-relative distance may differ, leading to the same place. A call may have
   become a jump to where its operand says. */
static bool same_instruction(const struct one *a, const struct one *b, bool call_to_jump)
{
	const ZydisDecodedInstruction *x = &a->instruction, *y = &b->instruction;
	bool relative = false;
	if (x->length != y->length || x->operand_count_visible != y->operand_count_visible)
		return false;
	for (int i = 0; i < x->operand_count_visible; i++) {
		bool of_a = a->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    a->operands[i].mem.base == ZYDIS_REGISTER_RIP;
		bool of_b = b->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    b->operands[i].mem.base == ZYDIS_REGISTER_RIP;
		if (of_a != of_b || (of_a && absolute(a, i) != absolute(b, i)))
			return false;
		relative |= of_a;
	}
	for (size_t i = 0; i < x->length; i++) {
		uint8_t expected = a->bytes[i];
		if (call_to_jump && i == x->raw.modrm.offset)
			expected ^= CALL_TO_JUMP;
		bool distance = relative && i >= x->raw.disp.offset && i < x->raw.disp.offset + 4u;
		if (!distance && expected != b->bytes[i])
			return false;
	}
	return true;
}

/* The copy must do what this instruction of the original does. */
static bool same_effect(const struct one *original, struct code *copy)
{
	const ZydisDecodedInstruction *instruction = &original->instruction;
	uintptr_t next = original->address + instruction->length, value;
	struct one one;
	bool relative = instruction->raw.imm[0].is_relative;
	if (instruction->meta.category == ZYDIS_CATEGORY_CALL) {
		if (!take_push(copy, &value) || value != next)
			return false;
		if (relative)
			return take_jump(copy, &value) && value == absolute(original, 0);
		return take(copy, &one) && one.instruction.mnemonic == ZYDIS_MNEMONIC_JMP &&
		       same_instruction(original, &one, true);
	}
	if (relative && instruction->mnemonic == ZYDIS_MNEMONIC_JMP)
		return take_jump(copy, &value) && value == absolute(original, 0);
	if (!take(copy, &one) || (one.instruction.mnemonic != instruction->mnemonic && !relative))
		return false;
	if (!relative)
		return same_instruction(original, &one, false);
	uintptr_t to = absolute(&one, 0);
	if (one.instruction.mnemonic == instruction->mnemonic && one.instruction.raw.imm[0].size == 32)
		return to == absolute(original, 0);
	/* A short branch to the jump beside it (loop), or the opposite one over it (jcc out of reach). */
	if (one.instruction.mnemonic == instruction->mnemonic) {
		struct one over;
		if (!take(copy, &over) || over.instruction.mnemonic != ZYDIS_MNEMONIC_JMP || to != copy->address)
			return false;
		return take_jump(copy, &value) && value == absolute(original, 0) && absolute(&over, 0) == copy->address;
	}
	return (one.instruction.opcode & 15) == ((instruction->opcode & 15) ^ 1) && take_jump(copy, &value) &&
	       value == absolute(original, 0) && to == copy->address;
}

static bool verify(const struct displaced *displaced, uintptr_t at, const uint8_t *copy, size_t length)
{
	struct code from = {(const uint8_t *)displaced->start, (const uint8_t *)displaced->start + displaced->bytes,
			    displaced->start};
	struct code to = {copy, copy + length, at};
	struct one one = {.address = 0};
	uintptr_t target;
	while (from.bytes < from.end)
		if (!take(&from, &one) || !same_effect(&one, &to))
			return false;
	bool back = !displaced->ends && one.instruction.meta.category != ZYDIS_CATEGORY_CALL;
	if (back && (!take_jump(&to, &target) || target != displaced->start + displaced->bytes))
		return false;
	return to.bytes == to.end && displaced->bytes + displaced->padding >= PATCH_JUMP_BYTES;
}

static size_t tried, turned, unnoticed;

/* Turns over each bit of the copy. Padding bits do not exist: every one of them is an opcode, an operand or an address. */
static void try_strictness(const struct displaced *displaced, uintptr_t at, uint8_t *copy, size_t length)
{
	for (size_t bit = 0; bit < length * 8; bit++) {
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
		turned++;
		if (verify(displaced, at, copy, length) && unnoticed++ < 5)
			printf("NOT NOTICED: bit %zu of the copy of %p\n", bit, (void *)displaced->start);
		copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static struct {
	const char *reason;
	unsigned count;
} refused[32];

static void count_refused(const char *reason)
{
	size_t i = 0;
	while (refused[i].reason && refused[i].reason != reason)
		i++;
	refused[i].reason = reason;
	refused[i].count++;
}

/* The segments as ld.so would place them, without relocation: code holds none. */
static uint8_t *map_segments(const uint8_t *file, size_t *bytes)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	const Elf64_Phdr *segment = (const Elf64_Phdr *)(file + header->e_phoff);
	*bytes = 0;
	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD && segment[i].p_vaddr + segment[i].p_memsz > *bytes)
			*bytes = segment[i].p_vaddr + segment[i].p_memsz;
	uint8_t *base = mmap(NULL, *bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD)
			memcpy(base + segment[i].p_vaddr, file + segment[i].p_offset, segment[i].p_filesz);
	return base;
}

static void check_function(const uint8_t *base, size_t bytes, uintptr_t offset, size_t size, unsigned *moved)
{
	/* From the last one no distance reaches; operands that need one are refused there. */
	static const intptr_t places[] = {-0x40000, 0x70000000, 0x10000000000};
	size_t last = sizeof places / sizeof places[0] - 1;
	struct displaced displaced;
	const char *reason = displaced_measure((uintptr_t)base + offset, size, bytes - offset, &displaced);
	if (reason) {
		count_refused(reason);
		return;
	}
	for (size_t i = 0; i <= last; i++) {
		uint8_t copy[RELOCATED_MAX_BYTES];
		size_t length;
		uintptr_t at = (uintptr_t)base + (uintptr_t)places[i];
		if ((reason = displaced_relocate(&displaced, at, copy, &length))) {
			if (i == last)
				break;
			count_refused(reason);
			return;
		}
		if (!verify(&displaced, at, copy, length)) {
			printf("MISMATCH at +0x%lx\n", (unsigned long)offset);
			mismatches++;
			return;
		}
		if (tried++ % SAMPLED == 0)
			try_strictness(&displaced, at, copy, length);
	}
	++*moved;
}

static unsigned check_symbols(const uint8_t *file, const uint8_t *base, size_t bytes, unsigned *moved)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + header->e_shoff);
	unsigned functions = 0;
	for (int i = 0; i < header->e_shnum; i++) {
		if (sections[i].sh_type != SHT_DYNSYM)
			continue;
		const Elf64_Sym *symbol = (const Elf64_Sym *)(file + sections[i].sh_offset);
		for (size_t n = sections[i].sh_size / sizeof *symbol; n--; symbol++)
			if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF) {
				functions++;
				check_function(base, bytes, symbol->st_value, symbol->st_size, moved);
			}
	}
	return functions;
}

/* Every range with an unwind description: the functions of a stripped program. */
static unsigned check_extents(const uint8_t *file, const uint8_t *base, size_t bytes, unsigned *moved)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	struct image image = {.base = (uintptr_t)base,
			      .phdr = (const Elf64_Phdr *)(file + header->e_phoff),
			      .phdr_count = header->e_phnum};
	unsigned functions = 0;
	for (size_t i = 0; i < image.phdr_count; i++) {
		if (image.phdr[i].p_type != PT_GNU_EH_FRAME)
			continue;
		const uint8_t *table = base + image.phdr[i].p_vaddr;
		const int32_t *entry = (const int32_t *)(table + 12);
		for (uint32_t n = *(const uint32_t *)(table + 8); n--; entry += 2) {
			uintptr_t address = (uintptr_t)table + (uintptr_t)(intptr_t)entry[0], start;
			size_t size;
			if (!extent_find(&image, address, &start, &size) || start != address)
				continue;
			functions++;
			check_function(base, bytes, address - (uintptr_t)base, size, moved);
		}
	}
	return functions;
}

static void report(const char *path, const char *what, unsigned functions, unsigned moved)
{
	printf("%s: %u functions by %s, %u can be patched (%.2f %%)\n", path, functions, what, moved,
	       100.0 * moved / (functions ? functions : 1));
	for (size_t i = 0; refused[i].reason; i++)
		printf("  %6u %5.2f %% refused: %s\n", refused[i].count, 100.0 * refused[i].count / functions,
		       refused[i].reason);
	memset(refused, 0, sizeof refused);
}

static void check_file(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &status)) {
		printf("%s: not here\n", path);
		return;
	}
	uint8_t *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	size_t bytes;
	uint8_t *base = map_segments(file, &bytes);
	unsigned moved = 0, functions = check_symbols(file, base, bytes, &moved);
	report(path, "symbol", functions, moved);
	moved = 0;
	functions = check_extents(file, base, bytes, &moved);
	report(path, "unwind table", functions, moved);
	munmap(base, bytes + 4096);
	munmap(file, (size_t)status.st_size);
}

int main(int argc, char **argv)
{
	static const char *const usual[] = {"/lib/x86_64-linux-gnu/libc.so.6",
					    "/lib/x86_64-linux-gnu/libm.so.6",
					    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
					    "/usr/lib/x86_64-linux-gnu/libSDL2-2.0.so.0",
					    "/usr/bin/python3",
					    "/usr/games/openttd",
					    "/usr/bin/godot3-server"};
	if (decode_init()) {
		puts("Zydis is missing");
		return 1;
	}
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (int i = 1; i < argc; i++)
		check_file(argv[i]);
	for (size_t i = 0; argc == 1 && i < sizeof usual / sizeof usual[0]; i++)
		check_file(usual[i]);
	printf("%d mismatches; %zu bits turned over, %zu not noticed\n", mismatches, turned, unnoticed);
	return mismatches || unnoticed;
}
