/* by_name LIBRARY FUNCTION N: opens a library and calls one of its functions N times, with work and a sleep in between. */
#include "common.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
	void *library = argc > 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	void (*call)(void) = library ? (void (*)(void))dlsym(library, argv[2]) : NULL;
	CHECK(call != NULL);
	struct timespec time = {0, 2000000};
	for (int i = 0; call && i < atoi(argv[3]); i++) {
		free(malloc(50));
		call();
		nanosleep(&time, NULL);
	}
	puts("done");
	return failures;
}
