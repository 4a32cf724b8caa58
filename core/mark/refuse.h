/* Functions that must never be patched, whoever asks (DESIGN §5). */
#ifndef FA_MARK_REFUSE_H
#define FA_MARK_REFUSE_H

#include <stdint.h>

#include "core/mark/image.h"

/* NULL, or why the function at `address` of `image` must be left alone. */
const char *refuse_function(const struct image *image, uintptr_t address);

/* NULL, or why no frame of ours may stand between the function and its caller, though its entry may be marked. */
const char *refuse_frame(uintptr_t address);

/* NULL, or why code must not be written now: more than one thread may be running it. */
const char *refuse_now(void);

#endif
