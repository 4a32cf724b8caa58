/* A signal handler that forks between the instructions of malloc, by call paths that are new, and of free: the trap flag stops
   after each, and at every Nth in turn the handler does. The child allocates. Prints how many forked and how many children
   failed. Arguments: N; the size of the blocks; "raw": no atfork handlers run; "fork": it interrupts fork instead, and frees blocks
   that were there before; then there is a thread that allocates. */
#include "common.h"

#include <sys/syscall.h>
#include <sys/wait.h>

#include "step.h"

static volatile long steps, target, forked, failed;
static size_t block_bytes = 40;
static bool raw;
static void *there_before;

/* Where fork blocks all signals (glibc 2.41) no handler comes, and the trap would kill: the call that blocks is passed over, and
   nothing is interrupted until the one that unblocks. */
static bool is_blocked(greg_t *registers)
{
	static bool blocked;
	const uint8_t *next = (const uint8_t *)registers[REG_RIP];
	if (next[0] != 0x0f || next[1] != 0x05 || registers[REG_RAX] != SYS_rt_sigprocmask)
		return blocked;
	blocked = registers[REG_RDI] == SIG_BLOCK;
	if (blocked) {
		memset((void *)registers[REG_RDX], 0, 8);
		registers[REG_RAX] = 0;
		registers[REG_RIP] += 2;
	}
	return true;
}

static void trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	if (is_blocked(registers) || ++steps != target)
		return;
	step_no_more(context);
	free(there_before);
	there_before = NULL;
	pid_t child = raw ? (pid_t)syscall(SYS_fork) : fork();
	if (!child) {
		for (size_t size = 1; size < 1000000; size *= 7) {
			char *block = malloc(size);
			if (!block)
				_exit(3);
			memset(block, 1, size);
			free(block);
		}
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	forked++;
	failed += status != 0;
}

/* One of 2^14 paths. */
static void *descend(unsigned way, int depth);
static __attribute__((noinline, noipa)) void *left(unsigned way, int depth)
{
	void *made = descend(way, depth);
	__asm__ volatile("");
	return made;
}
static __attribute__((noinline, noipa)) void *right(unsigned way, int depth)
{
	void *made = descend(way, depth);
	__asm__ volatile("");
	return made;
}
static __attribute__((noinline, noipa)) void *descend(unsigned way, int depth)
{
	void *made;
	if (depth) {
		made = (way & 1 ? left : right)(way >> 1, depth - 1);
		__asm__ volatile("");
		return made;
	}
	STEP_ON();
	made = malloc(block_bytes);
	STEP_OFF();
	return made;
}

static void *allocate(void *unused)
{
	for (size_t size = 1; size < 1000000; size *= 7)
		free(malloc(size));
	return unused;
}

static void interrupt_fork(long every)
{
	long before = -1;
	pthread_t thread;
	for (target = 1; before != forked; target += every) {
		before = forked;
		steps = 0;
		there_before = malloc(block_bytes);
		STEP_ON();
		pid_t child = fork();
		STEP_OFF();
		if (!child)
			_exit(0);
		int status;
		waitpid(child, &status, 0);
		failed += status != 0;
	}
	free(there_before);
	pthread_create(&thread, NULL, allocate, NULL);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	long every = argc > 1 ? atol(argv[1]) : 37, before = -1;
	block_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : block_bytes;
	raw = argc > 3 && !strcmp(argv[3], "raw");
	unsigned way = 1;
	struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &action, NULL);
	if (argc > 3 && !strcmp(argv[3], "fork")) {
		interrupt_fork(every);
		printf("%ld %ld\n", forked, failed);
		return failures;
	}
	for (target = 1; before != forked; target += every) {
		before = forked;
		steps = 0;
		void *made = descend(way++ * 2654435761u >> 8, 14), *other = malloc(block_bytes);
		STEP_ON();
		free(made);
		STEP_OFF();
		free(other);
	}
	printf("%ld %ld\n", forked, failed);
	return failures;
}
