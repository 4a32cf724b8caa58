/* Paths through code of the program that has no unwind tables, but keeps a frame pointer: at first free to ask the kernel whether
   that code can be read, then told that it cannot. */
#include "sandbox.h"

enum { KNOWN = 4, DEPTH = 40 };

void through(void (*call)(void));

__asm__(".text\n"
	".type through, @function\n"
	"through:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	call *%rdi\n"
	"	pop %rbp\n"
	"	ret\n"
	".size through, .-through\n");

static int left;

SITE void work(void)
{
	free(malloc(40));
}

SITE void again(void) /* NOLINT(misc-no-recursion) */
{
	through(--left > 0 ? again : work);
}

SITE void at_each_depth(int from, int past)
{
	for (volatile int depth = from; depth < past; depth++) {
		left = depth;
		again();
	}
}

/* The same page for all, however near to the end of one the linker has put it. */
static void refuse_code(void)
{
	uint32_t page = (uint32_t)(uintptr_t)through & -4096u;
	struct sock_filter filter[] = {LOAD(nr),
				       IF_IS(SYS_rt_sigprocmask, 0, 6),
				       LOAD(args[0]),
				       IF_IS(UINT32_MAX, 0, 4), /* no way to change a mask: it only reads one */
				       LOAD(args[1]),
				       BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, page, 0, 2),
				       BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, page + 8192, 1, 0),
				       RETURN(SECCOMP_RET_ERRNO | EFAULT),
				       RETURN(SECCOMP_RET_ALLOW)};
	SANDBOX_UNSEEN(filter);
}

int main(void)
{
	at_each_depth(1, KNOWN);
	refuse_code();
	at_each_depth(KNOWN, DEPTH);
	return failures != 0;
}
