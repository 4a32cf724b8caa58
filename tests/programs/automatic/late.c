/*
 * late PLUGIN ROUNDS HOW: opens and closes a plugin again and again, calling its plugin_tick ten times each, while
 * another thread works. HOW: lazy, now, global, or elsewhere (something else takes the plugin's place in between).
 */
#include "common.h"
#include <dlfcn.h>
#include <sys/mman.h>

static _Atomic bool over;

static void *busy(void *unused)
{
	while (!over)
		free(malloc(30));
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	const char *how = argc > 3 ? argv[3] : "now";
	pthread_create(&thread, NULL, busy, NULL);
	CHECK(!dlopen("libnone-such.so", RTLD_NOW) &&
	      strstr(dlerror(), "libnone-such.so: cannot open shared object file"));
	for (int round = 0; round < (argc > 2 ? atoi(argv[2]) : 1); round++) {
		int flags = !strcmp(how, "lazy")     ? RTLD_LAZY
			    : !strcmp(how, "global") ? RTLD_NOW | RTLD_GLOBAL
						     : RTLD_NOW;
		void *plugin = dlopen(argv[1], flags);
		void (*tick)(int) = plugin ? (void (*)(int))dlsym(plugin, "plugin_tick") : NULL;
		CHECK(tick != NULL);
		for (int i = 0; tick && i < 10; i++)
			tick(i);
		uintptr_t place = (uintptr_t)tick & ~4095ul;
		CHECK(!dlclose(plugin));
		if (!strcmp(how, "elsewhere")) /* if the place is taken already, all the better */
			mmap((void *)place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	}
	over = true;
	pthread_join(thread, NULL);
	puts("done");
	return failures;
}
