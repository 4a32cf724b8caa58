/* A library that is loaded and unloaded: it allocates in its constructor, on call and in its destructor. */
#include "common.h"

static void *made_at_load;

__attribute__((constructor)) static void load(void)
{
	made_at_load = malloc(123);
}

__attribute__((destructor)) static void unload(void)
{
	free(made_at_load);
	free(malloc(77));
}

void *plugin_make(void);

SITE void *plugin_make(void)
{
	frame_mark();
	return malloc(55);
}
