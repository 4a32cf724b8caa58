/* Children that make threads past pthread_create before they allocate, while a handler allocates every few milliseconds: in the middle
   of the fork's being noticed, of jemalloc's end of a thread, of a grandchild's fork. */
#include "common.h"

#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>

#define CHILDREN 50
#define THREADS 3

static void come(int number)
{
	(void)number;
	int saved = errno;
	free(malloc(50));
	free(malloc(30000));
	errno = saved;
}

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static int work(void *unused)
{
	(void)unused;
	for (size_t i = 0; i < 300; i++) {
		char *block = malloc(100 + i * 37 % 20000);
		block[3] = 1;
		block = realloc(block, 1200);
		CHECK(block[3] == 1);
		free(block);
	}
	return 0;
}

static void await(pid_t child)
{
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	CHECK(status == 0);
}

static void live(unsigned descendants)
{
	thrd_t thread[THREADS];
	for (int i = 0; i < THREADS; i++)
		CHECK(thrd_create(&thread[i], work, NULL) == thrd_success);
	work(NULL);
	if (descendants) {
		pid_t child = fork();
		if (!child)
			live(descendants - 1);
		await(child);
	}
	for (int i = 0; i < THREADS; i++)
		CHECK(thrd_join(thread[i], NULL) == thrd_success);
	_exit(failures);
}

int main(void)
{
	struct itimerval often = {{0, 700}, {0, 3000}};
	pthread_t thread;
	signal(SIGALRM, come);
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread, NULL, idle, NULL));
	for (int i = 0; i < CHILDREN; i++) {
		pid_t child = fork();
		if (!child) {
			setitimer(ITIMER_REAL, &often, NULL);
			live(1);
		}
		await(child);
	}
	return failures;
}
