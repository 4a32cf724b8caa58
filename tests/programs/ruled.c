/* What rules are about. `ruled resize`: a block that grows in a frame past the size of a rule. `ruled reload A B`: two libraries
   one after the other at the same address. Says so if they are not. */
#include "common.h"

#include <dlfcn.h>

SITE void *resized(void *block, size_t size)
{
	return realloc(block, size);
}

static void resize(void)
{
	for (int frame = 0; frame < 10; frame++) {
		frame_mark();
		void *block = resized(NULL, 100);
		block = resized(block, 200);
		free(resized(block, 5000));
	}
}

static void *use(const char *library)
{
	void *opened = dlopen(library, RTLD_NOW);
	void *(*make)(void) = opened ? (void *(*)(void))dlsym(opened, "make") : NULL;
	CHECK(make);
	for (int frame = 0; make && frame < 10; frame++) {
		frame_mark();
		free(make());
	}
	CHECK(opened && !dlclose(opened));
	return (void *)make;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		resize();
	else if (argc == 4 && use(argv[2]) != use(argv[3]))
		puts("elsewhere");
	return failures;
}
