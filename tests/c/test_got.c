/*
 * A function called through the tables of modules that ld.so has not filled in yet: each slot that will hold it is found, by
 * whichever of its names, and modules are not asked for each of the others (a program with 400 libraries has 100,000). What a
 * module with a scope of its own calls is led to us where ld.so has filled its tables in before it tells of the module.
 * Sources: core/mark/finder.c core/mark/finder_next.c core/mark/image.c core/mark/symbols.c core/mark/names.c
 * core/mark/demangle.c core/mark/decode.c core/mark/extent.c core/mark/near.c core/mark/refuse.c core/mark/patch.c
 * core/mark/patch_relocate.c core/mark/patch_scan.c core/mark/patch_index.c core/mark/patch_stub.c core/mark/patch_stub.S
 * core/mark/patch_run.c core/mark/arguments.c core/mark/got.c core/mark/got_stub.S core/path/cfi.c core/path/eh_frame.c
 * core/path/module.c core/base.c core/library.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mark/got.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "tests/c/check.h"

static int (*iterate)(int (*visit)(struct dl_phdr_info *, size_t, void *), void *context);
static int walks;

int dl_iterate_phdr(int (*visit)(struct dl_phdr_info *, size_t, void *), void *context)
{
	walks++;
	return iterate(visit, context);
}

/* A library with slots that nothing has filled: `never` is never called. Opened for its sum(). */
static const char source[] =
	"#include <stdlib.h>\n#include <stdio.h>\n#include <signal.h>\n#include <string.h>\n#include <time.h>\n"
	"#include <unistd.h>\n#include <sys/socket.h>\n"
	"void never(void *p) { rand(); srand(1); atexit(p); system(p); qsort(p, 1, 1, p); bsearch(p, p, 1, 1, p); "
	"kill(1, 0);"
	" raise(1); signal(1, p); sleep(1); alarm(1); pause(); chdir(p); rmdir(p); unlink(p); dup(1); pipe(p); "
	"socket(1, 1, 1);"
	" bind(1, p, 1); listen(1, 1); accept(1, p, p); send(1, p, 1, 1); recv(1, p, 1, 1); time(p); clock(); "
	"mktime(p); gmtime(p);"
	" ctime(p); strftime(p, 1, p, p); fopen(p, p); fclose(p); fread(p, 1, 1, p); fseek(p, 1, 1); tmpfile(); "
	"rename(p, p);"
	" remove(p); perror(p); strtod(p, p); strtok(p, p); strerror(1); strcoll(p, p); }\n"
	"unsigned long sum(void) { return strtoul(\"1\", NULL, 10) + strtoull(\"2\", NULL, 10) + strtol(\"4\", NULL, "
	"10); }\n"
	"int draw(void) { return rand(); }\nint (*table)(void) = rand;\n";

static void *make_library(const char *flags, int mode)
{
	char folder[] = "/tmp/test_got.XXXXXX", path[64], command[256];
	void *library = NULL;
	if (!mkdtemp(folder))
		return NULL;
	snprintf(path, sizeof path, "%s/slots.c", folder);
	FILE *file = fopen(path, "w");
	if (file && fputs(source, file) >= 0 && !fclose(file)) {
		snprintf(command, sizeof command,
			 "cd %s && gcc -std=gnu11 -O1 -w -fno-builtin -shared %s slots.c -o slots.so", folder, flags);
		if (!system(command)) {
			snprintf(path, sizeof path, "%s/slots.so", folder);
			library = dlopen(path, mode);
		}
	}
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command) ? NULL : library;
}

static long entered;

__attribute__((target("general-regs-only"))) static bool enter(void *context, const uintptr_t *fp, bool returns)
{
	(void)context, (void)fp, (void)returns;
	entered++;
	return false;
}

__attribute__((target("general-regs-only"))) static void leave(void *context, const uintptr_t *fp)
{
	(void)context, (void)fp;
}

int rand(void)
{
	return 7;
}

static void *resolve_rand(void)
{
	return (void *)rand;
}

static uintptr_t adopted; /* in the module that is new */

static bool is_new(const struct image *image)
{
	return adopted >= image->start && adopted < image->end;
}

static void adopt_what_is_relocated(const char *flags, int mode)
{
	static const struct got_own own[] = {{"rand", resolve_rand}};
	void *library = make_library(flags, mode | RTLD_DEEPBIND);
	int (*draw)(void) = library ? (__typeof__(draw))dlsym(library, "draw") : NULL;
	int (**table)(void) = library ? (__typeof__(table))dlsym(library, "table") : NULL;
	CHECK(draw && table && *table != rand);
	adopted = (uintptr_t)draw;
	got_own(own, 1);
	got_adopt(is_new);
	CHECK(draw && draw() == 7);
	CHECK(table && *table == rand);
}

int main(void)
{
	iterate = (__typeof__(iterate))dlsym(RTLD_NEXT, "dl_iterate_phdr");
	CHECK(patch_init() == 0);
	/* strtoull is another name of the same function. */
	struct mark_function function = {.address = (uintptr_t)dlsym(RTLD_DEFAULT, "strtoul")};
	CHECK(function.address == (uintptr_t)dlsym(RTLD_DEFAULT, "strtoull"));
	void *library = make_library("-fPIC -Wl,-z,lazy", RTLD_LAZY);
	unsigned long (*sum)(void) = library ? (__typeof__(sum))dlsym(library, "sum") : NULL;
	CHECK(sum != NULL);
	const char *reason = NULL;
	walks = 0;
	CHECK(got_around(&function, enter, leave, NULL, false, &reason) == 0 && !reason);
	CHECK(walks > 0 && walks < 20);
	CHECK(sum && sum() == 7 && entered == 2);
	adopt_what_is_relocated("-fPIC -Wl,-z,lazy", RTLD_LAZY);
	adopt_what_is_relocated("-fPIC -Wl,-z,now", RTLD_NOW);
	adopt_what_is_relocated("-fno-pic -mcmodel=large -Wl,-z,notext,-z,now", RTLD_NOW); /* slots in the code */
	printf("%d looks at the modules\n", walks);
	return failures != 0;
}
