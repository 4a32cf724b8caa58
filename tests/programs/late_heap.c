/* A program whose first block that lies in jemalloc comes late, so that it must be ready for that. The argument says after what:
   forks (handlers of fork allocate), keys (there are no more), calls (who makes others than an allocator's is killed, which no
   library sees coming), stack (on one of 8 KiB), task (it has small ones that grow), memory (there is little), fork (as another thread
   forks). */
#include "sandbox.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <threads.h>
#include <ucontext.h>

#define LARGE 100000u
#define STACK (8 << 10)
#define FORKS 150
#define MEMORY (20u << 20)
#define MEMORY_ENOUGH (2u << 20)
#define MEMORY_STEP (256u << 10)

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

SITE void small(void)
{
	void *volatile block = malloc(10);
	free(block);
}

static void await(pid_t child)
{
	int status = -1;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
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
		await(child);
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
	struct sock_filter filter[] = {LOAD(nr),
				       MAY(mmap),
				       MAY(munmap),
				       MAY(mprotect),
				       MAY(madvise),
				       MAY(brk),
				       MAY(exit_group),
				       MAY(write),
				       MAY(getpid),
				       MAY(rt_sigprocmask),
				       RETURN(SECCOMP_RET_KILL_PROCESS)};
	small(); /* which also glibc makes others for */
	SANDBOX_UNSEEN(filter);
	large();
}

/* As a coroutine that has so many bytes. */
static void run_on(char *low, size_t bytes, void (*work)(void))
{
	static ucontext_t here, there;
	CHECK(!getcontext(&there));
	there.uc_stack.ss_sp = low;
	there.uc_stack.ss_size = bytes;
	there.uc_link = &here;
	makecontext(&there, work, 0);
	CHECK(!swapcontext(&here, &there));
}

static void stack(void)
{
	char *low = mmap(NULL, 4096 + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(low != MAP_FAILED && !mprotect(low + 4096, STACK, PROT_READ | PROT_WRITE));
	run_on(low + 4096, STACK, large);
}

/* Small blocks of a coroutine, which is a task where markers say so, grow before there is a large one. */
SITE void grow(void)
{
	for (size_t i = 0; i < 100; i++) {
		char *block = malloc(40);
		block[39] = (char)i;
		block = realloc(block, 300 + i);
		CHECK(block && block[39] == (char)i);
		free(block);
	}
}

static void task(void)
{
	static char room[64 << 10];
	run_on(room, sizeof room, grow);
}

/* There are so many bytes more to be had, by a limit of which no library is told. What cannot be had is said; it comes where there is
   enough, and later, also where the program limits itself by a call that libraries see. */
static void memory_of(size_t more)
{
	struct rlimit unlimited, limit;
	CHECK(!getrlimit(RLIMIT_DATA, &unlimited));
	limit = (struct rlimit){((size_t)status_kib("VmData:") << 10) + more, unlimited.rlim_max};
	CHECK(!syscall(SYS_setrlimit, RLIMIT_DATA, &limit));
	void *block = malloc(LARGE);
	CHECK(block ? true : errno == ENOMEM && more < MEMORY_ENOUGH);
	free(block);
	CHECK(!setrlimit(RLIMIT_AS, &(struct rlimit){1ul << 45, RLIM_INFINITY}));
	free(malloc(LARGE));
	CHECK(!syscall(SYS_setrlimit, RLIMIT_DATA, &unlimited));
}

static void memory(void)
{
	for (size_t more = 0; more < MEMORY; more += MEMORY_STEP) {
		pid_t child = fork();
		if (!child) {
			alarm(20);
			memory_of(more);
			large();
			_exit(failures);
		}
		await(child);
	}
}

static atomic_bool go;

static int large_at_once(void *unused)
{
	(void)unused;
	while (!go)
		;
	large();
	return 0;
}

/* The thread is one that comes past pthread_create. Each time anew: in a child of a process that has had no large block. */
static void fork_meanwhile(unsigned turn)
{
	thrd_t thread;
	CHECK(thrd_create(&thread, large_at_once, NULL) == thrd_success);
	usleep(100);
	go = true;
	for (volatile unsigned i = 0; i < turn * 300; i++)
		;
	pid_t child = fork();
	if (!child) {
		alarm(20);
		large();
		_exit(failures);
	}
	await(child);
	CHECK(thrd_join(thread, NULL) == thrd_success);
}

static void forks_meanwhile(void)
{
	for (unsigned i = 0; i < FORKS; i++) {
		pid_t child = fork();
		if (!child) {
			fork_meanwhile(i);
			_exit(failures);
		}
		await(child);
	}
}

static const struct {
	const char *name;
	void (*work)(void);
} ways[] = {{"forks", forks}, {"keys", keys},     {"calls", calls},         {"stack", stack},
	    {"task", task},   {"memory", memory}, {"fork", forks_meanwhile}};

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (!strcmp(what, ways[i].name)) {
			ways[i].work();
			large();
			return failures;
		}
	return 2;
}
