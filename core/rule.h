/* Explicit routing rules at work: sites carry which rules hold for them (site.c), an allocation adds its size. */
#ifndef FA_RULE_H
#define FA_RULE_H

#include "core/thread.h"

/* Resolves the functions that rules name; again for each module that appears later. From bind.c. */
void rule_bind(void);
void rule_forget(uintptr_t start, uintptr_t end); /* a module that has gone */

/* There are no sites: at the start, and in a child that records on its own. */
void rule_forget_sites(void);

/* A new site: which rules hold for it, but for the size. `pcs` may be NULL with a count of 0. */
void rule_settle(uint32_t site, uint32_t tag, const uintptr_t *pcs, size_t count);
uint32_t rule_of_site(uint32_t site);
/* Counters of a site for which these hold. Any thread. */
void rule_apply(struct trace_counter *counter, uint32_t rules);

/* The module of the code that asked for memory: operator new and its like belong to their callers. */
const char *rule_allocating_module(const uintptr_t *pcs, size_t count);

/* The tier that the first fitting rule of `rules` names for a block of `size` bytes, + 1; 0: no rule fits. */
cold_path uint32_t rule_tier(uint32_t rules, size_t size);

/* A rule or the API asked for frame memory, and `tier` is what came of it: FA001 where no frame is open, FA701 in a task. */
cold_path void rule_asked_for_frame(struct thread *thread, uint32_t site, size_t size, enum trace_tier tier);

#endif
