/* The levels of codes. */
#include "core/check.h"

#include "core/registry/codes.h"

enum trace_level check_level(uint32_t code, bool asked)
{
	const struct code_info *info = codes_find(code);
	if (!info)
		return TRACE_LEVEL_WARN;
	return info->by_lifetime_rule && asked ? TRACE_LEVEL_ERROR : info->level;
}
