/* Does a symbol bear the name that the user typed? Pure comparisons; finder.c feeds them. */
#ifndef FA_MARK_NAMES_H
#define FA_MARK_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct name_pattern {
	const char *text; /* as typed; must outlive the pattern */
	char packed[1024]; /* the same without blanks that mean nothing */
	bool glob; /* * or ? stand for something (in `operator*` they do not) */
	bool maybe_demangled; /* can be a demangled name: not already a mangled one */
	bool maybe_templated; /* has `(`, `<` or `::`: a real demangler may find it */
	char keyword[128]; /* identifier that every matching linkage name must contain; empty when none is sure */
};

void name_compile(struct name_pattern *pattern, const char *text);

/* The linkage name itself, or that of a clone the compiler made of it (`name.constprop.0`). */
bool name_match_linkage(const struct name_pattern *pattern, const char *linkage);

/* A demangled name without parameters. */
bool name_match_path(const struct name_pattern *pattern, const char *readable);

/* A fully demangled name: whole, without its return type, or without its parameters. */
bool name_match_full(const struct name_pattern *pattern, const char *readable);

/* Cheap test before demangling. */
bool name_may_contain(const struct name_pattern *pattern, const char *linkage);

#endif
