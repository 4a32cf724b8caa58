/*
 * The shared half of every patch: keep the general registers, call the callbacks, give the registers back. The other
 * half is a few bytes in near memory (patch_stub.h). Both routines have unwind information that makes them look like a
 * function called by the marked function's caller, so debuggers and exceptions pass.
 *
 * Vector registers: callbacks are compiled for general registers only. What else they need, libc's memory functions for
 * one, they call through a guard, which keeps every vector and mask register; x87 and MXCSR nobody touches. XSAVEC takes
 * 50 to 80 ns each way, so the registers are stored one by one. When all upper halves are zero only the lower ones are
 * stored, and vzeroupper brings the zeros back: reloading zeros would leave the upper halves marked as in use, which
 * slows a target that is compiled for SSE.
 */
	.section .note.GNU-stack, "", @progbits
	.text

#define STUB_PASS_BY 2 /* patch_stub.h: behind the stub's leave; ret */

/* Where save_avx512 keeps what, from rsp. */
#define LOW 0    /* zmm0-15, ymm0-15 or xmm0-15, 64, 32 or 16 bytes apart */
#define HIGH 1024 /* zmm16-31 */
#define MASKS 2048
#define WIDE_LOW 2112  /* non-zero: upper parts of 0-15 were stored */
#define WIDE_HIGH 2120 /* of 16-31 above 256 bits */

	.macro save_sse
	sub $256, %rsp
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps %xmm\n, \n*16(%rsp)
	.endr
	.endm

	.macro restore_sse
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movaps \n*16(%rsp), %xmm\n
	.endr
	.endm

	.macro save_avx
	sub $576, %rsp
	vmovaps %ymm14, 14*32(%rsp)
	vmovaps %ymm15, 15*32(%rsp)
	.irp n, 0, 2, 4, 6, 8, 10, 12
	vorps %ymm\n, %ymm14, %ymm14
	.endr
	.irp n, 1, 3, 5, 7, 9, 11, 13
	vorps %ymm\n, %ymm15, %ymm15
	.endr
	vorps %ymm14, %ymm15, %ymm15
	vextractf128 $1, %ymm15, %xmm15
	xor %eax, %eax
	vptest %xmm15, %xmm15
	setnz %al
	mov %eax, 512(%rsp)
	jnz 71f
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	vmovaps %xmm\n, \n*32(%rsp)
	.endr
	vzeroupper
	jmp 72f
71:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	vmovaps %ymm\n, \n*32(%rsp)
	.endr
72:
	.endm

	.macro restore_avx
	cmpl $0, 512(%rsp)
	jne 73f
	vzeroupper
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovaps \n*32(%rsp), %xmm\n
	.endr
	jmp 74f
73:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovaps \n*32(%rsp), %ymm\n
	.endr
74:
	.endm

	.macro save_avx512
	sub $2176, %rsp
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7
	kmovq %k\n, MASKS+\n*8(%rsp)
	.endr
	vmovaps %zmm14, LOW+14*64(%rsp)
	vmovaps %zmm15, LOW+15*64(%rsp)
	vmovaps %zmm30, HIGH+14*64(%rsp)
	vmovaps %zmm31, HIGH+15*64(%rsp)
	.irp n, 0, 2, 4, 6, 8, 10, 12
	vporq %zmm\n, %zmm14, %zmm14
	.endr
	.irp n, 1, 3, 5, 7, 9, 11, 13
	vporq %zmm\n, %zmm15, %zmm15
	.endr
	.irp n, 16, 18, 20, 22, 24, 26, 28
	vporq %zmm\n, %zmm30, %zmm30
	.endr
	.irp n, 17, 19, 21, 23, 25, 27, 29
	vporq %zmm\n, %zmm31, %zmm31
	.endr
	vporq %zmm14, %zmm15, %zmm15
	vporq %zmm30, %zmm31, %zmm31
	vptestmq %zmm15, %zmm15, %k1
	vptestmq %zmm31, %zmm31, %k2
	kmovw %k1, %eax
	kmovw %k2, %ecx
	and $0xfc, %eax
	and $0xf0, %ecx
	mov %eax, WIDE_LOW(%rsp)
	mov %ecx, WIDE_HIGH(%rsp)
	test %eax, %eax
	jnz 71f
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	vmovaps %xmm\n, LOW+\n*64(%rsp)
	.endr
	vzeroupper
	jmp 72f
71:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	vmovaps %zmm\n, LOW+\n*64(%rsp)
	.endr
72:
	test %ecx, %ecx
	jnz 75f
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
	vmovaps %ymm\n, HIGH+(\n-16)*64(%rsp)
	.endr
	jmp 76f
75:
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
	vmovaps %zmm\n, HIGH+(\n-16)*64(%rsp)
	.endr
76:
	.endm

	.macro restore_avx512
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7
	kmovq MASKS+\n*8(%rsp), %k\n
	.endr
	cmpl $0, WIDE_LOW(%rsp)
	jne 73f
	vzeroupper
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovaps LOW+\n*64(%rsp), %xmm\n
	.endr
	jmp 74f
73:
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovaps LOW+\n*64(%rsp), %zmm\n
	.endr
74:
	cmpl $0, WIDE_HIGH(%rsp)
	jne 77f
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	vmovaps HIGH+(\n-16)*64(%rsp), %ymm\n
	.endr
	jmp 78f
77:
	.irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	vmovaps HIGH+(\n-16)*64(%rsp), %zmm\n
	.endr
78:
	.endm

/* The header's 64 bytes must be zero before: the instruction merges into it. */
	.macro save_xsave
	sub stub_xsave_bytes(%rip), %rsp
	xor %eax, %eax
	.irp n, 0, 8, 16, 24, 32, 40, 48, 56
	mov %rax, 512+\n(%rsp)
	.endr
	mov stub_xsave_mask(%rip), %eax
	xor %edx, %edx
	xsave64 (%rsp)
	.endm

	.macro restore_xsave
	mov stub_xsave_mask(%rip), %eax
	xor %edx, %edx
	xrstor64 (%rsp)
	.endm

/* Flags: all that a call may hand on, without pushf and popf, which cost 5 ns. DF is clear at every entry. */
	.macro push_general
	push %rax
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %rbx
	lahf
	seto %al
	push %rax
	.endm

	.macro restore_flags
	add $127, %al
	sahf
	.endm

	.globl mark_entry
	.hidden mark_entry
	.type mark_entry, @function
	.p2align 6
mark_entry:
	.cfi_startproc
	endbr64
	.cfi_def_cfa %rbp, 16
	.cfi_offset %rbp, -16
	push_general
	.cfi_offset %rbx, -104
	mov -8(%rbp), %rax /* where the stub goes on */
	mov -34(%rax), %rax /* STUB_RETURN_TO_RECORD */
	mov (%rax), %rbx
	and $-16, %rsp
1:	mov 16(%rbx), %rdi
	mov %rbp, %rsi
	call *8(%rbx)
	mov (%rbx), %rbx
	test %rbx, %rbx
	jnz 1b
	lea -96(%rbp), %rsp
	pop %rax
	restore_flags
	pop %rbx
	.cfi_restore %rbx
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rax
	ret
	.cfi_endproc
	.size mark_entry, . - mark_entry

	.macro load_general
	mov -24(%rbp), %rax
	mov -32(%rbp), %rcx
	mov -40(%rbp), %rdx
	mov -48(%rbp), %rsi
	mov -56(%rbp), %rdi
	mov -64(%rbp), %r8
	mov -72(%rbp), %r9
	mov -80(%rbp), %r10
	mov -88(%rbp), %r11
	.endm

	.macro store_general
	mov %rax, -24(%rbp)
	mov %rcx, -32(%rbp)
	mov %rdx, -40(%rbp)
	mov %rsi, -48(%rbp)
	mov %rdi, -56(%rbp)
	mov %r8, -64(%rbp)
	mov %r9, -72(%rbp)
	mov %r10, -80(%rbp)
	mov %r11, -88(%rbp)
	.endm

/*
 * The stub has made the frame: -8(%rbp) is the record, -16(%rbp) the return into the stub, 112(%rbp) below it what
 * patch_stub.h calls leaves. patch_run_enter says whether the original is called from here, with how many bytes of the
 * caller's stack arguments before it, or jumped to as if nobody had come by: the stub's second way on. The copy keeps
 * the arguments' alignment. An exception that passes ends in patch_personality.
 */
	.globl mark_around
	.hidden mark_around
	.type mark_around, @function
	.p2align 6
mark_around:
	.cfi_startproc
	.cfi_personality 0x1b, patch_personality
	.cfi_def_cfa %rbp, 16
	.cfi_offset %rbp, -16
	endbr64
	push_general
	.cfi_offset %rbx, -112
	lea -128(%rbp), %rsp
	mov -8(%rbp), %rbx
	mov %rbx, %rdi
	mov %rbp, %rsi
	call patch_run_enter
	mov %rax, %rcx
	test %rcx, %rcx
	js 2f
	jz 1f
	sub %rcx, %rsp
	and $-64, %rsp
	lea 16(%rbp), %eax
	and $63, %eax
	lea -64(%rsp,%rax), %rsp
4:	mov 8(%rbp,%rcx), %rax
	mov %rax, -8(%rsp,%rcx)
	sub $8, %rcx
	jnz 4b
1:	mov -104(%rbp), %rax
	restore_flags
	load_general
	call *24(%rbx)
	store_general
	lea -128(%rbp), %rsp
	mov %rbp, %rdi
	call patch_run_leave
3:	load_general
	mov -96(%rbp), %rbx
	lea -16(%rbp), %rsp
	ret
2:	addq $STUB_PASS_BY, -16(%rbp)
	mov -104(%rbp), %rax
	restore_flags
	jmp 3b
	.cfi_endproc
	.size mark_around, . - mark_around

/* mark_guard_KIND(function, a, b): function(a, b) with every vector and mask register kept. */
	.macro guard_routine kind
	.globl mark_guard_\kind
	.hidden mark_guard_\kind
	.type mark_guard_\kind, @function
	.p2align 6
mark_guard_\kind:
	.cfi_startproc
	endbr64
	push %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	mov %rsp, %rbp
	.cfi_def_cfa_register %rbp
	push %rbx
	.cfi_offset %rbx, -24
	push %r12
	.cfi_offset %r12, -32
	mov %rdi, %rbx
	mov %rsi, %rdi
	mov %rdx, %rsi
	mov %rdx, %r12
	and $-64, %rsp
	save_\kind
	mov %r12, %rsi
	call *%rbx
	restore_\kind
	lea -16(%rbp), %rsp
	pop %r12
	.cfi_restore %r12
	pop %rbx
	.cfi_restore %rbx
	pop %rbp
	.cfi_restore %rbp
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.size mark_guard_\kind, . - mark_guard_\kind
	.endm

	.hidden patch_personality
	.hidden patch_run_enter
	.hidden patch_run_leave
	.hidden stub_xsave_bytes
	.hidden stub_xsave_mask

	guard_routine sse
	guard_routine avx
	guard_routine avx512
	guard_routine xsave
