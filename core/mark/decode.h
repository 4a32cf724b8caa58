/* One machine instruction, seen as the patcher needs it: does it move as it is, and where does it lead? */
#ifndef FA_MARK_DECODE_H
#define FA_MARK_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum instruction_kind {
	INSTRUCTION_PLAIN, /* means the same at any address */
	INSTRUCTION_RIP_RELATIVE, /* has an operand at [rip + disp32]; may be an indirect call or jump as well */
	INSTRUCTION_CALL, /* call rel32 */
	INSTRUCTION_JUMP, /* jmp rel8, rel32 */
	INSTRUCTION_JUMP_IF, /* jcc rel8, rel32 */
	INSTRUCTION_JUMP_COUNTING, /* loop, loope, loopne, jrcxz: rel8 only */
	INSTRUCTION_UNMOVABLE, /* relative in a way that cannot be rewritten (xbegin, 16-bit branches) */
};

struct instruction {
	uint8_t length;
	enum instruction_kind kind;
	bool ends; /* nothing falls through to the next instruction: ret, jmp, ud2, hlt, int3 */
	bool calls; /* pushes a return address */
	bool pads; /* nop of any length or int3 */
	bool endbr; /* endbr64 */
	uint8_t operand_at; /* offset of the displacement or branch distance, and its bytes (1 or 4) */
	uint8_t operand_bytes;
	uint8_t condition; /* JUMP_IF: low four bits of the opcode */
	bool jumps_anywhere; /* a jump through a register or memory */
	enum {
		INSTRUCTION_BASE_NONE,
		INSTRUCTION_BASE_SP,
		INSTRUCTION_BASE_FP
	} base; /* rsp or rbp, of a memory operand or copied */
	int32_t displacement; /* beside that base */
	bool stack_base; /* an indirect call's operand is based on rsp (or r12) */
	uintptr_t target; /* RIP_RELATIVE: address of the operand; branches: where they lead */
	uintptr_t table; /* of an operand at [register * n + table], else 0 */
};

/* 0, or -ENOENT without the disassembler's library. */
int decode_init(void);

/* Decodes the bytes at `bytes` as if they stood at `address`. False: no valid instruction, or no disassembler. */
bool decode(const uint8_t *bytes, size_t available, uintptr_t address, struct instruction *out);

#endif
