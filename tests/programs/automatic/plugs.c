/*
 * plugs KIND PLUGIN...: opens and closes plugins in the ways that programs do. Prints how often plugin_tick was called,
 * and whatever dlerror says.
 */
#include "common.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

long ticks;
static char **plugin;
static int plugins;

static void *open_as(const char *name, int flags)
{
	void *handle = dlopen(name, flags);
	if (!handle)
		printf("%s\n", dlerror());
	return handle;
}

static void tick(void *handle, const char *name, int n)
{
	void (*call)(int) = handle ? (void (*)(int))dlsym(handle, name) : NULL;
	CHECK(call != NULL);
	for (int i = 0; call && i < n; i++)
		call(i);
}

/* One after the other, ten calls of the first, twenty of the second, …, `rounds` times. */
static void in_turn(int rounds, int flags)
{
	while (rounds--)
		for (int i = 0; i < plugins; i++) {
			void *handle = open_as(plugin[i], flags);
			tick(handle, "plugin_tick", 10 * (i + 1));
			CHECK(!dlclose(handle));
		}
}
static void kind_now(void)
{
	in_turn(3, RTLD_NOW);
}
static void kind_lazy(void)
{
	in_turn(3, RTLD_LAZY);
}
static void kind_global(void)
{
	in_turn(3, RTLD_NOW | RTLD_GLOBAL);
}
static void kind_deep(void)
{
	in_turn(3, RTLD_NOW | RTLD_DEEPBIND);
}
static void kind_many(void)
{
	in_turn(150, RTLD_NOW);
}

/* The place of each is taken before it comes again. */
static void kind_elsewhere(void)
{
	for (int round = 0; round < 5; round++) {
		void *handle = open_as(plugin[0], RTLD_NOW);
		char *place = dlsym(handle, "plugin_tick");
		tick(handle, "plugin_tick", 10);
		CHECK(!dlclose(handle));
		mmap((void *)((uintptr_t)place & ~4095ul), 4096, PROT_READ,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	}
}

static void kind_together(void)
{
	void *handles[8];
	for (int i = 0; i < plugins; i++)
		handles[i] = open_as(plugin[i], RTLD_NOW);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < plugins; i++)
			tick(handles[i], "plugin_tick", 10 * (i + 1));
	for (int i = 0; i < plugins; i++)
		CHECK(!dlclose(handles[i]));
}

/* Opened twice: the first close changes nothing; opened NOLOAD; kept by NODELETE. */
static void kind_counted(void)
{
	CHECK(!dlopen(plugin[0], RTLD_NOW | RTLD_NOLOAD));
	void *first = open_as(plugin[0], RTLD_NOW), *second = open_as(plugin[0], RTLD_LAZY);
	CHECK(first == second);
	tick(first, "plugin_tick", 10);
	CHECK(!dlclose(second));
	tick(first, "plugin_tick", 10);
	void *third = dlopen(plugin[0], RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
	CHECK(third == first && !dlclose(third) && !dlclose(first));
	void *again = open_as(plugin[0], RTLD_NOW);
	tick(again, "plugin_tick", 10);
	CHECK(!dlclose(again));
}

static void *work(void *number)
{
	for (int round = 0; round < 25; round++) {
		void *handle = open_as(plugin[(intptr_t)number], RTLD_NOW);
		tick(handle, "plugin_tick", 10);
		CHECK(!dlclose(handle));
	}
	return NULL;
}
/* Each thread its own plugin; one that stays is called all the time. */
static void *stay(void *handle)
{
	for (long i = 0; i < 20000; i++)
		tick(handle, "plugin_tick", 1);
	return NULL;
}
static void kind_threads(void)
{
	pthread_t thread[8], calling;
	void *handle = open_as(plugin[0], RTLD_NOW);
	pthread_create(&calling, NULL, stay, handle);
	for (int i = 1; i < plugins; i++)
		pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i);
	for (int i = 1; i < plugins; i++)
		pthread_join(thread[i], NULL);
	pthread_join(calling, NULL);
	CHECK(!dlclose(handle));
}

/* What is called all the time was opened just before what comes and goes meanwhile: their stubs lie side by side. */
static void *stay_inside(void *handle)
{
	tick(handle, "plugin_tick", 20000);
	return NULL;
}
static void kind_inside(void)
{
	for (int round = 0; round < 100; round++) {
		pthread_t calling[2];
		void *handle = open_as(plugin[0], RTLD_NOW);
		for (int i = 0; i < 2; i++)
			pthread_create(&calling[i], NULL, stay_inside, handle);
		for (int i = 0; i < 12; i++) {
			void *other = open_as(plugin[1], RTLD_NOW);
			CHECK(other && !dlclose(other));
		}
		for (int i = 0; i < 2; i++)
			pthread_join(calling[i], NULL);
		CHECK(!dlclose(handle));
	}
}

/* Namespaces of their own have a libc, and no `ticks`, of their own. */
static void kind_namespace(void)
{
	for (int round = 0; round < 3; round++) {
		void *handle = dlmopen(LM_ID_NEWLM, plugin[0], RTLD_NOW | RTLD_LOCAL);
		if (!handle)
			printf("%s\n", dlerror());
		tick(handle, "plugin_tick", 10);
		ticks += 10;
		CHECK(!handle || !dlclose(handle));
	}
}

/* To open a library is no cancellation point. */
static void *cancelled(void *reached)
{
	pthread_cancel(pthread_self());
	in_turn(3, RTLD_NOW);
	return reached;
}
static void kind_cancelled(void)
{
	pthread_t thread;
	void *result = NULL;
	CHECK(!pthread_create(&thread, NULL, cancelled, &thread) && !pthread_join(thread, &result));
	CHECK(result == &thread);
}

static void kind_chosen(void)
{
	for (int round = 0; round < 3; round++) {
		void *handle = open_as(plugin[0], RTLD_NOW);
		tick(handle, "plugin_chosen", 10);
		CHECK(!dlclose(handle));
	}
}

static void kind_search(void)
{
	void *handle = open_as(plugin[0], RTLD_NOW);
	void *(*search)(const char *) = (void *(*)(const char *))dlsym(handle, "plugin_search");
	printf("%s by the program\n", dlopen("found_by_runpath.so", RTLD_NOW) ? "found" : dlerror());
	void *found = search("found_by_runpath.so");
	printf("%s by the plugin\n", found ? "found" : dlerror());
	tick(found, "plugin_tick", 10);
	CHECK(!dlclose(found) && !dlclose(handle));
}

/* The program's file is replaced by another version between two loads, as engines do that reload game code. */
static void kind_reloaded(void)
{
	char path[] = "reloaded.so", content[1 << 16];
	for (int round = 0; round < 4; round++) {
		int from = open(plugin[round % plugins], O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
		for (ssize_t n; (n = read(from, content, sizeof content)) > 0;)
			CHECK(write(to, content, (size_t)n) == n);
		close(from), close(to);
		void *handle = open_as("./reloaded.so", RTLD_NOW);
		tick(handle, "plugin_tick", 10);
		CHECK(!dlclose(handle));
		unlink(path);
	}
}

/* What cannot be opened. */
static void kind_refused(void)
{
	CHECK(!open_as("libnone-such.so", RTLD_NOW));
	CHECK(!open_as("/none/such.so", RTLD_LAZY));
	CHECK(!open_as(plugin[0], RTLD_NOW)); /* a function that nobody has */
	CHECK(!open_as("/etc/passwd", RTLD_NOW));
	CHECK(!dlopen(plugin[0], 0) && dlerror());
	CHECK(dlopen(NULL, RTLD_NOW) && !dlsym(RTLD_DEFAULT, "nobody_has_this"));
	printf("%s\n", dlerror());
	void *handle = open_as(plugin[0], RTLD_LAZY);
	tick(handle, "plugin_tick", 10);
	CHECK(!dlclose(handle));
}

/* A child has nobody to count for. */
static void kind_fork(void)
{
	void *handle = open_as(plugin[0], RTLD_NOW);
	tick(handle, "plugin_tick", 10);
	pid_t child = fork();
	if (!child) {
		void *own = open_as(plugin[1], RTLD_NOW);
		tick(handle, "plugin_tick", 10);
		tick(own, "plugin_tick", 10);
		CHECK(!dlclose(own) && !dlclose(handle));
		_exit(failures);
	}
	int status = 1;
	CHECK(waitpid(child, &status, 0) == child && !status);
	tick(handle, "plugin_tick", 10);
}

/* Stays open to the end. */
static void kind_kept(void)
{
	tick(open_as(plugin[0], RTLD_NOW), "plugin_tick", 10);
}

static void kind_returns(void)
{
	in_turn(2, RTLD_NOW);
	kind_kept();
}

/* The first one does, the others come and go. */
static void kind_stays(void)
{
	void *first = open_as(plugin[0], RTLD_NOW);
	for (int i = 1; i < plugins; i++) {
		void *other = open_as(plugin[i], RTLD_NOW);
		tick(other, "plugin_tick", 10);
		tick(first, "plugin_tick", 10);
		CHECK(!dlclose(other));
	}
}

/* Nothing: what the program is linked with does it all. */
static void kind_nothing(void)
{
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		void (*run)(void);
	} kinds[] = {{"now", kind_now},           {"lazy", kind_lazy},           {"global", kind_global},
		     {"deep", kind_deep},         {"many", kind_many},           {"elsewhere", kind_elsewhere},
		     {"together", kind_together}, {"counted", kind_counted},     {"threads", kind_threads},
		     {"inside", kind_inside},     {"namespace", kind_namespace}, {"chosen", kind_chosen},
		     {"search", kind_search},     {"reloaded", kind_reloaded},   {"refused", kind_refused},
		     {"fork", kind_fork},         {"kept", kind_kept},           {"nothing", kind_nothing},
		     {"returns", kind_returns},   {"stays", kind_stays},         {"cancelled", kind_cancelled}};
	bool known = false;
	plugin = argv + 2;
	plugins = argc - 2;
	for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].kind)) {
			kinds[i].run();
			known = true;
		}
	CHECK(known);
	printf("%ld ticks\n", ticks);
	return failures;
}
