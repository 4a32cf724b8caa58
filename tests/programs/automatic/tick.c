/* A plugin: its constructor calls the function that tests mark, as its loader does later. */
#include <stdlib.h>

__attribute__((noinline, noipa)) void plugin_tick(int n)
{
	free(malloc(20 + (size_t)n));
}

/* Chosen when the plugin is relocated: resolvers of modules that are not must not be called. */
static int plain_choice(void)
{
	return 1;
}
static int (*resolve_choice(void))(void)
{
	return plain_choice;
}
int plugin_choice(void) __attribute__((ifunc("resolve_choice")));

__attribute__((constructor)) static void init(void)
{
	plugin_tick(1);
	plugin_tick(plugin_choice());
}
