/* The policy that a program is to run under, read before it starts: what is wrong with it is said now, and nothing runs. */
#ifndef FA_RUN_POLICY_H
#define FA_RUN_POLICY_H

#include "tools/fa-run/command.h"

/* 0, or -EINVAL when a preset or the policy file is not as it should be and that has been said. The program gets the
   file's absolute path. */
int policy_check(struct command *command);

#endif
