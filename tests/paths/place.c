/* A library for deceive.cpp: built with PAD 0 and 1 its code lies at the same addresses, in frames of other sizes. */
#include <stdlib.h>

#define STRING(x) #x
#define SIZE(x) STRING(x)
#if PAD
#define FRAME 0x98
#define CFA 160
#else
#define FRAME 0x88
#define CFA 144
#endif
__asm__(".globl enter\n.type enter, @function\nenter:\n.cfi_startproc\nsub $" SIZE(
	FRAME) ", %rsp\n.cfi_def_cfa_offset " SIZE(CFA) "\n"
							"call *%rdi\nadd $" SIZE(
								FRAME) ", %rsp\n.cfi_def_cfa_offset "
								       "8\nret\n.cfi_endproc\n.size enter, .-enter");
