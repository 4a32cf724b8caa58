/* A thread that may make no system calls but those of glibc's malloc and mutexes allocates by thousands of new paths, as three others
   do: they meet at the locks. */
#include "sandbox.h"

enum { THREADS = 3, PATHS = 20000, DEPTH = 24 };

static volatile bool over;

SITE void right(int depth, unsigned *state);
SITE void left(int depth, unsigned *state)
{
	if (!depth)
		free(malloc(100));
	else if ((*state = *state * 1103515245 + 12345) >> 16 & 1)
		left(depth - 1, state);
	else
		right(depth - 1, state);
	__asm__ volatile("");
}

SITE void right(int depth, unsigned *state)
{
	left(depth, state);
	__asm__ volatile("");
}

static void *allocates(void *number)
{
	unsigned state = (unsigned)(uintptr_t)number;
	while (!over)
		left(DEPTH, &state);
	return NULL;
}

int main(void)
{
	pthread_t thread[THREADS];
	unsigned state = THREADS;
	struct sock_filter filter[] = {LOAD(nr),
				       MAY(mmap),
				       MAY(munmap),
				       MAY(mremap),
				       MAY(madvise),
				       MAY(mprotect),
				       MAY(brk),
				       MAY(futex),
				       MAY(write),
				       MAY(exit_group),
				       RETURN(SECCOMP_RET_KILL_PROCESS)};
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, allocates, (void *)i));
	SANDBOX(filter);
	for (int i = 0; i < PATHS; i++)
		left(DEPTH, &state);
	over = true;
	_exit(failures);
}
