/* Children of a fork while other threads open and close libraries: each gives up what it has, waits and jumps for the first time.
   Says how many came to no end of their own. */
#include "common.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void *load(void *library)
{
	for (;;) {
		void *opened = dlopen(library, RTLD_NOW);
		if (opened)
			dlclose(opened);
	}
	return NULL;
}

static void child(void)
{
	jmp_buf again;
	alarm(5);
	errno = 77;
	CHECK(!setuid(getuid()) && !seteuid(geteuid()) && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && errno == 77);
	usleep(1);
	if (!setjmp(again))
		longjmp(again, 1);
	_exit(failures);
}

int main(int argc, char **argv)
{
	int forks = argc > 2 ? atoi(argv[2]) : 100, failed = 0, status;
	for (int i = 0; i < 2; i++)
		pthread_create(&(pthread_t){0}, NULL, load, argv[1]);
	for (int i = 0; i < forks && !failed; i++) {
		pid_t pid = fork();
		if (!pid)
			child();
		failed += waitpid(pid, &status, 0) != pid || status != 0;
	}
	printf("%d\n", failed);
	fflush(stdout);
	_exit(failed != 0);
}
