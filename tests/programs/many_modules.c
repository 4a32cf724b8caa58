/* many_modules FOLDER COUNT: opens 0.so, 1.so, … there, calls plugin_tick of each, ten times. */
#include <dlfcn.h>

#include "common.h"

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	for (int i = 0; i < atoi(argv[2]); i++) {
		char name[4096];
		snprintf(name, sizeof name, "%s/%d.so", argv[1], i);
		void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
		void (*tick)(int) = library ? (void (*)(int))dlsym(library, "plugin_tick") : NULL;
		CHECK(tick != NULL);
		for (volatile int n = 0; tick && n < 10; n++)
			tick(1);
	}
	return failures != 0;
}
