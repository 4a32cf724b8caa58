/* Finds presets by name. The table itself is made by the Makefile, of what lies in the folder presets. */
#include "core/registry/presets.h"

#include <string.h>

const struct preset *preset_find(const char *name)
{
	for (size_t i = 0; i < preset_count; i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}
