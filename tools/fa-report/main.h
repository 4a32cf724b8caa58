/* What main shares with the commands. */
#ifndef FA_REPORT_MAIN_H
#define FA_REPORT_MAIN_H

#include <errno.h>

#include "core/registry/codes.h"

/* "FA601", "601" or "frame-escape"; NULL when there is no such code. FA702 is FA603. */
const struct code_info *report_code(const char *text);

#endif
