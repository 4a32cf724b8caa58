/*
 * Forks, of every kind, while other threads are inside the allocator. Each child allocates, frees blocks of its parent's,
 * starts a thread and ends. Usage: fork_storm fork|_fork|clone|vfork|spawn|system|popen ROUNDS
 */
#include "common.h"

#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static _Atomic bool over;
static void *shared[64];

static void *churn(void *seed)
{
	unsigned state = (unsigned)(uintptr_t)seed;
	void *block[64] = {0};
	while (!over) {
		unsigned at = (state = state * 1103515245 + 12345) >> 16 & 63;
		free(block[at]);
		block[at] = malloc((state >> 8) % (at ? 3000 : 40000) + 1);
		if (at == 5)
			frame_mark();
	}
	for (int i = 0; i < 64; i++)
		free(block[i]);
	return NULL;
}

static void use(void)
{
	for (size_t size = 1; size < 200000; size = size * 2 + 3) {
		char *p = malloc(size), *q = memset(calloc(1, size), 3, size);
		p = memset(realloc(p, size * 2), 5, size * 2);
		if (p[size] != 5 || q[size - 1] != 3)
			_exit(9);
		free(p);
		free(q);
	}
	for (int i = 0; i < 64; i++) {
		if (*(char *)shared[i] != (char)i)
			_exit(8);
		shared[i] = realloc(shared[i], 400);
		free(shared[i]);
	}
	frame_mark();
	free(malloc(100));
}

static void *nothing(void *p)
{
	return free(p), malloc(10);
}

static void child(bool threads)
{
	use();
	pthread_t thread;
	void *result = NULL;
	if (threads && (pthread_create(&thread, NULL, nothing, malloc(50)) || pthread_join(thread, &result)))
		_exit(7);
	free(result);
	_exit(33);
}

static int wait_for(pid_t pid)
{
	int status = -1;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int one(const char *kind)
{
	char *const command[] = {"/bin/true", NULL};
	pid_t pid = -1;
	if (!strcmp(kind, "fork") && (pid = fork()) == 0)
		child(true);
	if (!strcmp(kind, "_fork") && (pid = _Fork()) == 0)
		child(false);
	if (!strcmp(kind, "clone") && (pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == 0)
		child(false);
	if (!strcmp(kind, "vfork") && (pid = vfork()) == 0) {
		execv(command[0], command);
		_exit(1);
	}
	if (!strcmp(kind, "spawn") && posix_spawn(&pid, command[0], NULL, NULL, command, environ))
		return -1;
	if (!strcmp(kind, "system"))
		return system("exit 33") == 33 << 8 ? 33 : -1;
	if (!strcmp(kind, "popen")) {
		char line[16] = "";
		FILE *pipe = popen("echo through", "r");
		return fgets(line, 16, pipe) && !strcmp(line, "through\n") && pclose(pipe) == 0 ? 33 : -1;
	}
	int status = wait_for(pid);
	return (!strcmp(kind, "vfork") || !strcmp(kind, "spawn")) && status == 0 ? 33 : status;
}

int main(int argc, char **argv)
{
	pthread_t thread[3];
	if (argc != 3)
		return 2;
	frame_mark();
	for (int i = 0; i < 64; i++)
		*(char *)(shared[i] = malloc((size_t)(i % 8 ? 90 : 20000))) = (char)i;
	frame_mark();
	for (long i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, churn, (void *)(i + 1));
	for (int i = 0, rounds = atoi(argv[2]); i < rounds; i++) {
		int status = one(argv[1]);
		if (status != 33) {
			dprintf(2, "%s, round %d: %d\n", argv[1], i, status);
			return 1;
		}
		free(malloc(300));
	}
	over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	use();
	return 0;
}
