/* A frame that neither a frame pointer nor a stack pointer leads out of: only who knows rbx does. */
#ifndef TEST_BY_RBX_H
#define TEST_BY_RBX_H

void below_by_rbx(void (*call)(void));
__asm__(".text\n"
	".type below_by_rbx, @function\n"
	"below_by_rbx:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_offset rbx, -16\n"
	"	mov %rsp, %rbx\n"
	"	.cfi_def_cfa_register rbx\n"
	"	and $-64, %rsp\n"
	"	call *%rdi\n"
	"	mov %rbx, %rsp\n"
	"	.cfi_def_cfa_register rsp\n"
	"	pop %rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size below_by_rbx, .-below_by_rbx\n");

#endif
