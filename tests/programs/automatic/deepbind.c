/* deepbind PLUGIN [fork]: blocks go back and forth between the program and a plugin with a scope of its own. */
#include "common.h"
#include <dlfcn.h>
#include <sys/wait.h>

static void exchange(const char *path, int flags)
{
	void *plugin = dlopen(path, flags | RTLD_DEEPBIND);
	char *(*make)(const char *) = (char *(*)(const char *))dlsym(plugin, "deep_make");
	char *(*grow)(char *, size_t) = (char *(*)(char *, size_t))dlsym(plugin, "deep_grow");
	void (*take)(char *) = (void (*)(char *))dlsym(plugin, "deep_take");
	void (*take_by_pointer)(char *) = (void (*)(char *))dlsym(plugin, "deep_take_by_pointer");
	for (int i = 0; i < 200; i++) {
		char *text = strdup("a text"), *made = make("another");
		text = grow(text, 1000 + (size_t)i);
		made = realloc(made, 500);
		CHECK(!strcmp(text, "a text") && !strcmp(made, "another"));
		take(text);
		free(made);
		take_by_pointer(malloc(40));
	}
	CHECK(!dlclose(plugin));
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[2], "fork")) {
		int status;
		pid_t child = fork();
		if (!child) {
			exchange(argv[1], RTLD_LAZY);
			_exit(failures);
		}
		waitpid(child, &status, 0);
		CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	exchange(argv[1], RTLD_NOW);
	exchange(argv[1], RTLD_LAZY);
	puts("done");
	return failures;
}
