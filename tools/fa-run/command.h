/* The command line of fa-run, checked: every value has passed the registry that the shim itself uses. */
#ifndef FA_RUN_COMMAND_H
#define FA_RUN_COMMAND_H

#include <stdbool.h>

#include "core/registry/options.h"

enum command_report { COMMAND_REPORT_AUTO, COMMAND_REPORT_YES, COMMAND_REPORT_NO };

struct command {
	struct options
		options; /* the environment's FA_OPTIONS, then the command line's; never copied: it points into itself */
	char *shim_options; /* FA_OPTIONS for the program, but for `output` */
	enum command_report report;
	bool quiet;
	const char *suggest; /* where a policy from the run goes: "" standard error, NULL: none is wanted */
	char **argv; /* the program and its arguments */
};

/* Returns 0 to go on, 1 when everything is done (--help and the like), -EINVAL when the line was wrong and that has
   been said. */
int command_parse(struct command *command, int argc, char **argv);

/* Appends `key=value` to FA_OPTIONS text with commas and backslashes escaped. `text` is on the heap and may be NULL;
   returns the new text. */
char *command_append(char *text, const char *key, const char *value);

#endif
