/* Which modules are new since markers were bound last. bind.c asks, in the constructor and inside ld.so, never on two
   threads at once. */
#ifndef FA_NEWCOMERS_H
#define FA_NEWCOMERS_H

#include "core/base.h"
#include "core/mark/image.h"

/* Brings the list up to date, telling `gone` of each module that is not there any more. True: some are new. */
bool newcomers_look(void (*gone)(uintptr_t start, uintptr_t end));

/* Whether the address, the image, is a new module's. */
bool newcomers_hold(uintptr_t address);
bool newcomers_image(const struct image *image);

/* They are new no longer. */
void newcomers_met(void);

#endif
