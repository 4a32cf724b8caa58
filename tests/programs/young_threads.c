/* Children of a fork that make threads before they allocate anything: 100 of them, by pthread_create, or with an argument past it.
   The threads' stacks are those of threads that the parent had, so that making them allocates nothing either. */
#include "common.h"

#include <sys/wait.h>
#include <threads.h>

#define CHILDREN 100
#define THREADS 2

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *work(void *unused)
{
	for (size_t i = 0; i < 2000; i++) {
		char *block = malloc(100 + i % 900);
		memset(block, (int)i, 100);
		block = realloc(block, 1200);
		CHECK(block[99] == (char)i);
		free(block);
	}
	return unused;
}

static int work_of_c11(void *unused)
{
	work(unused);
	return 0;
}

static void child(bool past_the_hook)
{
	pthread_t thread[THREADS];
	thrd_t other[THREADS];
	for (int i = 0; i < THREADS; i++)
		CHECK(past_the_hook ? thrd_create(&other[i], work_of_c11, NULL) == thrd_success
				    : !pthread_create(&thread[i], NULL, work, NULL));
	work(NULL);
	for (int i = 0; i < THREADS; i++)
		CHECK(past_the_hook ? thrd_join(other[i], NULL) == thrd_success : !pthread_join(thread[i], NULL));
	_exit(failures);
}

int main(int count, char **arguments)
{
	(void)arguments;
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, idle, NULL));
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();
		int status = 0;
		if (!pid)
			child(count > 1);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	return failures;
}
