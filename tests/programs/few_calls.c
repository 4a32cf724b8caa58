/* A program that may make no system calls but those of an allocator, and goes on allocating. With an argument it may make all, but for
   an advice about memory that allocators do not give: it is refused. */
#include "sandbox.h"

#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

SITE void *deep(unsigned depth, size_t size)
{
	void *block = depth ? deep(depth - 1, size) : malloc(size);
	__asm__ volatile("" : "+r"(block));
	return block;
}

static void allow_few(void)
{
	struct sock_filter filter[] = {LOAD(nr),
				       MAY(mmap),
				       MAY(munmap),
				       IF_IS(SYS_mremap, 0, 3), /* as browsers allow it */
				       LOAD(args[3]),
				       IF_IS(MREMAP_MAYMOVE, 0, 1),
				       RETURN(SECCOMP_RET_ALLOW),
				       LOAD(nr),
				       MAY(mprotect),
				       MAY(madvise),
				       MAY(brk),
				       MAY(futex),
				       MAY(write),
				       MAY(exit_group),
				       RETURN(SECCOMP_RET_KILL_PROCESS)};
	SANDBOX(filter);
}

static void refuse_advice(void)
{
	struct sock_filter filter[] = {LOAD(nr),
				       IF_IS(SYS_madvise, 0, 3),
				       LOAD(args[2]),
				       BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, MADV_POPULATE_READ, 0, 1),
				       RETURN(SECCOMP_RET_ERRNO | EPERM),
				       RETURN(SECCOMP_RET_ALLOW)};
	SANDBOX(filter);
}

int main(int count, char **arguments)
{
	(void)arguments;
	free(malloc(10));
	(count > 1 ? refuse_advice : allow_few)();
	for (unsigned i = 0; i < 20000; i++) {
		unsigned char *block = deep(i % 100, i % 50 ? i % 5000 + 1 : 1000000);
		block[0] = (unsigned char)i;
		block = realloc(block, i % 50 ? 9000 : 2500000);
		CHECK(block[0] == (unsigned char)i);
		free(block);
	}
	_exit(failures);
}
