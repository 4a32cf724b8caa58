/* Functions that consist of a jump, as those of tables that are filled at run time do. */
#include "core/mark/decode.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"

#define CODE_BYTES 10u /* endbr64, and a jump through a slot */

struct mark_jump mark_jump_of(uintptr_t function)
{
	struct mark_jump jump = {0, NULL};
	struct image image;
	struct instruction instruction;
	uintptr_t at = function, end = function + CODE_BYTES;
	if (!image_of(function, &image) || !image_executable(&image, function, CODE_BYTES) ||
	    !decode((const uint8_t *)at, end - at, at, &instruction))
		return jump;
	if (instruction.endbr) {
		at += instruction.length;
		if (!decode((const uint8_t *)at, end - at, at, &instruction))
			return jump;
	}
	if (instruction.kind == INSTRUCTION_JUMP)
		jump.target = instruction.target;
	else if (instruction.kind == INSTRUCTION_RIP_RELATIVE && instruction.jumps_anywhere)
		jump.slot = (const uintptr_t *)instruction.target;
	return jump;
}
