/* A program that gives up, for good, what opening its recording again would need, and whose recording has to grow after that.
   The first argument says what: root, chroot, files, calls; or root-fork and calls-fork, whose child begins then. */
#include "sandbox.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define DEPTH 12u
#define ROUNDS 3

/* A call path for each number of DEPTH bits. */
SITE void *left(unsigned number, unsigned depth);

SITE void *right(unsigned number, unsigned depth)
{
	void *block = depth < DEPTH ? (number & 1 ? right : left)(number >> 1, depth + 1) : malloc(40);
	__asm__ volatile("" : "+r"(block));
	return block;
}

SITE void *left(unsigned number, unsigned depth)
{
	void *block = depth < DEPTH ? (number & 1 ? right : left)(number >> 1, depth + 1) : malloc(80);
	__asm__ volatile("" : "+r"(block));
	return block;
}

static void allocate(void)
{
	for (int round = 0; round < ROUNDS; round++)
		for (unsigned number = 0; number < 1u << DEPTH; number++)
			free(left(number, 0));
}

/* Who opens a file or asks for limits from now on is killed. */
static void give_up_calls(void)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		IF_IS(SYS_openat, 1, 0),
		IF_IS(SYS_prlimit64, 0, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		RETURN(SECCOMP_RET_ALLOW),
	};
	SANDBOX(filter);
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	if (!strncmp(what, "root", 4))
		CHECK(!setgid(65534) && !setuid(65534));
	else if (!strcmp(what, "chroot"))
		CHECK(!chroot("/usr/share") && !chdir("/"));
	else if (!strcmp(what, "files"))
		CHECK(!setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096}));
	else if (!strncmp(what, "calls", 5))
		give_up_calls();
	else
		return 2;
	if (strstr(what, "-fork") && !fork()) {
		errno = 77;
		CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && errno == 77);
		allocate();
		_exit(failures);
	}
	for (int i = 0; i < 10; i++) /* zero configuration looks at these */
		usleep(1000);
	allocate();
	int status = 0;
	wait(&status);
	return failures || status;
}
