/* The stubs of got.c: as the `around` part of a patch's stub (patch_stub.h), each with its own place in two tables. */
#include "core/mark/got_stub.h"

	.section .note.GNU-stack, "", @progbits
	.text
	.globl got_stubs, got_stubs_end
	.hidden got_stubs, got_stubs_end, got_record, got_original, mark_around
	.p2align 6
got_stubs:
	.set index, 0
	.rept GOT_STUBS
	.p2align 6
	endbr64
	push %rbp
	mov %rsp, %rbp
	push got_record+index*8(%rip)
	call mark_around
	leave
	ret
	leave
	jmp *got_original+index*8(%rip)
	.set index, index + 1
	.endr
	.p2align 6
got_stubs_end:
