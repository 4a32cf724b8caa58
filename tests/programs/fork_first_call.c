/* Children whose first call of ours is no allocation: statistics, names, threads; by fork and by a raw clone. */
#include "common.h"

#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *nothing(void *argument)
{
	return argument;
}

static void first_call(int which)
{
	pthread_t thread;
	if (which == 0)
		mallinfo2();
	else if (which == 1)
		prctl(PR_SET_NAME, "child");
	else if (which == 2)
		pthread_setname_np(pthread_self(), "child");
	else if (which == 3 && pthread_create(&thread, NULL, nothing, NULL) == 0)
		pthread_join(thread, NULL);
	else if (which == 4)
		malloc_trim(0);
	_exit(0);
}

int main(void)
{
	free(malloc(10));
	for (int which = 0; which < 5; which++)
		for (int raw = 0; raw < 2; raw++) {
			int status = -1;
			pid_t child = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
			if (!child)
				first_call(which);
			CHECK(waitpid(child, &status, 0) == child && status == 0);
		}
	return failures;
}
