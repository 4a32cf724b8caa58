/*
 * Plugins of many makes, by what is defined: INIT (its constructor calls plugin_tick), FINI (its destructor does), INNER
 * (its constructor opens a second plugin, $INNER, and calls that), CHOSEN (plugin_chosen is an IFUNC), PADDED (everything
 * lies elsewhere than in its twin), NAME (a word of its own: the same layout, another build), SEARCH (plugin_search opens
 * a name that only its own RUNPATH leads to), MISSING (needs a function that nobody has), LARGE (its code is not searched in
 * memory). Each call is counted in the program's `ticks`, where it has one.
 */
#include <dlfcn.h>
#include <stdlib.h>

extern long ticks __attribute__((weak));

#ifdef NAME
const char plugin_name[8] = NAME;
#endif

#ifdef PADDED
__attribute__((noipa, used)) int padding(int x)
{
	for (int i = 0; i < x; i++)
		x += x % 7 * i;
	return x;
}
__attribute__((noipa, used)) int more_padding(int x)
{
	return padding(x) * 3;
}
#endif

__attribute__((noinline, noipa)) void plugin_tick(int n)
{
	free(malloc(20 + (size_t)n));
	if (&ticks)
		__atomic_fetch_add(&ticks, 1, __ATOMIC_RELAXED);
}

#ifdef CHOSEN
__attribute__((noinline, noipa)) void plugin_choice(int n)
{
	free(malloc(30 + (size_t)n));
	if (&ticks)
		__atomic_fetch_add(&ticks, 1, __ATOMIC_RELAXED);
}
static void (*choose(void))(int)
{
	return plugin_choice;
}
void plugin_chosen(int n) __attribute__((ifunc("choose")));
#endif

#ifdef INIT
__attribute__((constructor)) static void init(void)
{
	plugin_tick(1);
	plugin_tick(2);
}
#endif

#ifdef FINI
__attribute__((destructor)) static void fini(void)
{
	plugin_tick(3);
}
#endif

#ifdef INNER
__attribute__((constructor)) static void init_inner(void)
{
	void *inner = dlopen(getenv("INNER"), RTLD_NOW | RTLD_LOCAL);
	void (*tick)(int) = inner ? (void (*)(int))dlsym(inner, "plugin_tick") : NULL;
	for (int i = 0; tick && i < 5; i++)
		tick(i);
}
#endif

#ifdef SEARCH
void *plugin_search(const char *name)
{
	return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}
#endif

#ifdef MISSING
void nobody_has_this(void);
void plugin_missing(void)
{
	nobody_has_this();
}
#endif

#ifdef LARGE
/* The first page of the file, behind a note, has nothing that is written to: it tells whose file it is. */
__asm__(".section .note.room, \"a\", @note\n"
	".long 4, 4096, 0\n"
	".asciz \"abc\"\n"
	".skip 4096\n"
	".text\n"
	".skip 5 << 20, 0xcc\n");
#endif
