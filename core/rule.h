/* Explicit routing rules at work: sites carry which rules hold for them (site.c), an allocation adds its size. */
#ifndef FA_RULE_H
#define FA_RULE_H

#include "core/thread.h"

/* The tier that the first fitting rule of `rules` names for a block of `size` bytes, + 1; 0: no rule fits. */
cold_path uint32_t rule_tier(uint64_t rules, size_t size);

/* A rule asked for frame memory, and `tier` is what came of it: FA001 where no frame is open. */
cold_path void rule_asked_for_frame(struct thread *thread, uint32_t site, size_t size, enum trace_tier tier);

#endif
