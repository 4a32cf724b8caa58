/* player PLUGIN PICTURES: the program of a pygame-like game: all of SDL comes with a plugin, RTLD_LOCAL. */
#include "common.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
	void *plugin = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	if (!plugin)
		dprintf(2, "%s\n", dlerror());
	int (*play)(int) = plugin ? (int (*)(int))dlsym(plugin, "dummy_play") : NULL;
	CHECK(play != NULL && !dlsym(RTLD_DEFAULT, "SDL_RenderPresent"));
	printf("%d pictures\n", play ? play(atoi(argv[2])) : 0);
	return failures;
}
