/* A process and its forked child, each with a block that outlives its frame. */
#include "common.h"
#include <sys/wait.h>

SITE void *born_here(void)
{
	return malloc(100);
}

int main(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	frame_mark();
	void *block = born_here();
	frame_mark();
	free(block);
	frame_mark();
	if (!child)
		return failures;
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return failures;
}
