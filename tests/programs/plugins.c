/* Loads and unloads a library over and over, with threads that allocate meanwhile. Usage: plugins LIBRARY ROUNDS */
#include "common.h"

#include <dlfcn.h>

static _Atomic bool over;

static void *churn(void *unused)
{
	while (!over) {
		void *p = malloc(200);
		free(realloc(p, 9000));
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	void *kept[64] = {0};
	if (argc != 3)
		return 2;
	pthread_create(&thread, NULL, churn, NULL);
	for (int i = 0, rounds = atoi(argv[2]); i < rounds; i++) {
		frame_mark();
		void *library = dlopen(argv[1], i % 2 ? RTLD_NOW : RTLD_LAZY | RTLD_GLOBAL);
		void *(*make)(void) = library ? (void *(*)(void))dlsym(library, "plugin_make") : NULL;
		if (!make)
			return dprintf(2, "%s\n", dlerror()), 3;
		free(kept[i & 63]);
		kept[i & 63] = make();
		CHECK(dlsym(RTLD_DEFAULT, "no_such_function_anywhere") == NULL && dlerror());
		dlclose(library);
	}
	over = true;
	pthread_join(thread, NULL);
	for (int i = 0; i < 64; i++)
		free(kept[i]);
	return failures;
}
