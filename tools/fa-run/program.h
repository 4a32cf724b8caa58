/* What COMMAND is: which file, and whether a preloaded library can do its work in it. */
#ifndef FA_RUN_PROGRAM_H
#define FA_RUN_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Finds the file that `name` runs, as a shell does (PATH unless there is a slash). Returns 0, -ENOENT, -EACCES or
   -ENAMETOOLONG. */
int program_find(const char *name, char path[PATH_MAX]);

struct program {
	bool suits; /* the shim can serve it, or only trying will tell */
	bool uses_jemalloc; /* it calls jemalloc's own functions: the library of their names is to be preloaded too */
	char why[PATH_MAX + 128]; /* !suits: one sentence without a full stop */
};

/* Looks at the file that `path` runs: of a script, at its interpreter. */
void program_inspect(const char *path, struct program *program);

/* True when the file may be a shell script without `#!`: it holds text and is no ELF file. */
bool program_is_text(const char *path);

#endif
