/* Processes that end, fork or become another program inside a scope. ends CASE */
#include "scopes.h"

#include <sys/wait.h>

static long sum;
static const char *self;
static pthread_t main_thread, thread;

SITE static long m_work(long value)
{
	inside();
	return value * 3 + 1;
}

static void last(void)
{
	if (pthread_equal(pthread_self(), main_thread)) { /* exit was called inside the scope */
		inside();
		sum = m_work(sum);
	} else { /* by the last thread, when all scopes are gone */
		outside();
	}
	printf("%ld\n", sum);
	finish();
}

static int child(void)
{
	/* Only behaviour counts: what a fork's child does is not in the parent's recording. */
	long got = 0;
	for (int i = 0; i < 100; i++) {
		free(malloc(33));
		got = got * 3 + i;
	}
	return (int)(got & 63);
}

SITE static int m_forks(void)
{
	int status = 0;
	inside();
	pid_t pid = fork();
	if (!pid)
		return child();
	waitpid(pid, &status, 0);
	inside();
	sum += status;
	return -1;
}

SITE static void m_ends(const char *how)
{
	inside();
	if (!strcmp(how, "exit"))
		exit(7);
	if (!strcmp(how, "_exit")) {
		last();
		_exit(7);
	}
	if (!strcmp(how, "abort")) {
		last();
		abort();
	}
	if (!strcmp(how, "exec")) {
		execl(self, self, "again", NULL);
		CHECK(!"exec");
	}
	if (!strcmp(how, "main-exits")) {
		atexit(last);
		pthread_exit(NULL);
	}
}

static void *waits(void *unused)
{
	pthread_join(main_thread, NULL);
	return unused;
}

int main(int argc, char **argv)
{
	(void)argc;
	self = argv[0];
	main_thread = pthread_self();
	outside();
	if (!strcmp(argv[1], "fork")) {
		for (int i = 0; i < 20; i++) {
			scopes_begun++;
			int got = m_forks();
			if (got >= 0) { /* the child returned from the scope, and calls on */
				for (int n = 0; n < 10; n++)
					sum = m_work(sum & 0xff);
				_exit((int)(sum & 0x3f) ^ got);
			}
			outside();
		}
		printf("%ld\n", sum);
		return finish();
	}
	if (!strcmp(argv[1], "again")) {
		sum = m_work(3);
		scopes_begun++;
		printf("again %ld\n", sum);
		return finish();
	}
	if (!strcmp(argv[1], "exit"))
		atexit(last);
	if (!strcmp(argv[1], "main-exits"))
		pthread_create(&thread, NULL, waits, NULL);
	scopes_begun++;
	m_ends(argv[1]);
	return 1;
}
