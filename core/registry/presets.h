/* The presets that ship with the library: presets/NAME.ini, embedded at build time in the order of their names. */
#ifndef FA_REGISTRY_PRESETS_H
#define FA_REGISTRY_PRESETS_H

#include <stddef.h>

struct preset {
	const char *name;
	const char *text;
	size_t bytes;
};

extern const struct preset presets[];
extern const size_t preset_count;

/* NULL when there is none of this name. */
const struct preset *preset_find(const char *name);

#endif
