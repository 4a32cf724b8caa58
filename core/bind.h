/*
 * From markers wanted (options, presets, policy) to bound functions and marker records that say what was bound where,
 * or why not. Modules that appear later are bound before their constructors run: ld.so calls an empty function whenever
 * its list of modules changes, for debuggers to set a breakpoint on, and we are called from there.
 */
#ifndef FA_BIND_H
#define FA_BIND_H

#include "core/base.h"

/* Once, from the constructor, after policy_load. */
void bind_markers(void);

/* In the child of a fork that records on its own: the patches are there, their records are made anew. */
void bind_child(void);

#endif
