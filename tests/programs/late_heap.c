/* A program whose first block that lies in jemalloc comes late, so that it must be ready for that. The argument says after what:
   forks (handlers of fork allocate), keys (there are no more), calls (who opens a file is killed), stack (on one of 12 KiB). */
#include "sandbox.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#define LARGE 100000u
#define STACK (12 << 10)

SITE void large(void)
{
	unsigned char *block = malloc(LARGE);
	CHECK(block != NULL);
	if (!block)
		return;
	memset(block, 0x5a, LARGE);
	CHECK(block[0] == 0x5a && block[LARGE - 1] == 0x5a);
	free(block);
}

static void forks(void)
{
	CHECK(!pthread_atfork(large, large, large));
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		if (!child) {
			large();
			_exit(failures);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
}

static void *large_in_thread(void *unused)
{
	large();
	return unused;
}

static void keys(void)
{
	pthread_key_t key;
	while (!pthread_key_create(&key, NULL))
		;
	large();
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, large_in_thread, NULL) && !pthread_join(thread, NULL));
}

static void calls(void)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		IF_IS(SYS_openat, 3, 0),
		IF_IS(SYS_open, 2, 0),
		IF_IS(SYS_sched_getaffinity, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	SANDBOX(filter);
	large();
}

static void stack(void)
{
	static ucontext_t here, there;
	char *low = mmap(NULL, 4096 + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(low != MAP_FAILED && !mprotect(low + 4096, STACK, PROT_READ | PROT_WRITE) && !getcontext(&there));
	there.uc_stack.ss_sp = low + 4096;
	there.uc_stack.ss_size = STACK;
	there.uc_link = &here;
	makecontext(&there, large, 0);
	CHECK(!swapcontext(&here, &there));
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	if (!strcmp(what, "forks"))
		forks();
	else if (!strcmp(what, "keys"))
		keys();
	else if (!strcmp(what, "calls"))
		calls();
	else if (!strcmp(what, "stack"))
		stack();
	else
		return 2;
	large();
	return failures;
}
