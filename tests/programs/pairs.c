/* N pairs of malloc and free, a child that is forked now and then; "tell" says when a part is done and goes on at a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1000;
	const char *how = argc > 2 ? argv[2] : "";
	for (long i = 0; i < count; i++) {
		free(malloc((size_t)(i % 300)));
		if (!strcmp(how, "fork") && i % 1000 == 999) {
			pid_t child = fork();
			if (child == 0) {
				free(malloc(7));
				_exit(0);
			}
			waitpid(child, NULL, 0);
		}
		if (!strcmp(how, "tell") && i == 100000) {
			puts("begun");
			fflush(stdout);
			while (getchar() != '\n')
				;
		}
	}
	if (!strcmp(how, "exec"))
		execl(argv[0], argv[0], "500", (char *)NULL);
	puts("done");
	return 0;
}
