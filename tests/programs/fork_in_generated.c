/* fork_in_generated LIBRARY FORKS: children of a fork while another thread allocates through generated code. The
   other's stack is of another depth each time, so that no path is known. The child allocates through that code as
   well, and opens a library. Says how many came to no end of their own. Ends with 77 where no code may be made. */
#include "common.h"

#include <alloca.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/wait.h>

static void (*generated)(void (*call)(void));

SITE void work(void)
{
	free(malloc(40));
}

SITE void deep(unsigned depth)
{
	volatile char *room = alloca(16 + 16 * (size_t)depth);
	room[0] = 1;
	generated(work);
}

static void *allocate(void *unused)
{
	for (unsigned i = 0;; i++)
		deep(i % 60000);
	return unused;
}

static void child(const char *library)
{
	alarm(3);
	generated(work);
	CHECK(dlopen(library, RTLD_NOW));
	_exit(failures);
}

int main(int argc, char **argv)
{
	/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
	int forks = argc > 2 ? atoi(argv[2]) : 60, failed = 0, status;
	void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (place == MAP_FAILED)
		return 77;
	memcpy(place, code, sizeof code);
	generated = (void (*)(void (*)(void)))place;
	pthread_create(&(pthread_t){0}, NULL, allocate, NULL);
	for (int i = 0; i < forks && !failed; i++) {
		pid_t pid = fork();
		if (!pid)
			child(argv[1]);
		failed += waitpid(pid, &status, 0) != pid || status != 0;
	}
	printf("%d\n", failed);
	fflush(stdout);
	_exit(failed != 0);
}
