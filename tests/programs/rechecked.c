/* The same paths over several pages of stack, at first free to ask the kernel which of them can be read, then told that none can. */
#include "sandbox.h"

SITE void work(void)
{
	free(malloc(40));
}

SITE void at(unsigned depth) /* NOLINT(misc-no-recursion) */
{
	volatile char room[1500];
	room[depth] = 1;
	if (depth)
		at(depth - 1);
	else
		work();
	room[depth] = 0;
}

SITE void work_often(int times)
{
	for (volatile int i = 0; i < times; i++)
		at(20);
}

static void refuse_pages(void)
{
	struct sock_filter filter[] = {LOAD(nr),
				       IF_IS(SYS_rt_sigprocmask, 0, 3),
				       LOAD(args[0]),
				       IF_IS(UINT32_MAX, 0, 1), /* no way to change a mask: it only reads one */
				       RETURN(SECCOMP_RET_ERRNO | EFAULT),
				       RETURN(SECCOMP_RET_ALLOW)};
	SANDBOX_UNSEEN(filter);
}

int main(void)
{
	for (volatile int turn = 0; turn < 2; turn++) {
		work_often(500);
		if (!turn)
			refuse_pages();
	}
	return failures != 0;
}
