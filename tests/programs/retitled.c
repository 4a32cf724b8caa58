/* Writes its title over its arguments and its environment, as nginx and PostgreSQL do, before it forks. */
#include "common.h"

#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
	for (char **entry = environ; *entry; entry++)
		if (*entry == end)
			end += strlen(*entry) + 1;
	memset(argv[0], 0, (size_t)(end - argv[0]));
	argv[0][0] = 'x';
	for (int i = 1; i < argc; i++)
		argv[i] = NULL;
	pid_t child = fork();
	if (!child) {
		for (int i = 0; i < 100; i++)
			free(malloc(100));
		_exit(3);
	}
	int status = 0;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
	return failures != 0;
}
