/* The code registry as data: lookups for shim and tools over codes.def, losses.def and thresholds.def. */
#ifndef FA_REGISTRY_CODES_H
#define FA_REGISTRY_CODES_H

#include <stddef.h>
#include <stdint.h>

#include "core/trace/format.h"

struct code_info {
	uint32_t number;
	const char *name;
	enum trace_level level; /* of a frame block by circumstance */
	int by_lifetime_rule; /* 1: becomes an error where frame memory was asked for */
	const char *sentence;
	const char *help;
};

size_t codes_count(void);
const struct code_info *codes_at(size_t index);
const struct code_info *codes_find(uint32_t number); /* NULL when unknown */
int codes_place(uint32_t number); /* place in the registry, -1 when unknown */
/* "FA601", "601" or "frame-escape", in any case; NULL when there is no such code. FA702 is FA603. */
const struct code_info *codes_named(const char *text);
const char *codes_loss_text(enum trace_loss loss);
const char *codes_threshold_key(enum trace_threshold threshold);

#endif
