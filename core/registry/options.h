/*
 * Options of the shim, parsed from FA_OPTIONS without allocating: used in the target before anything else runs, and by
 * fa-run to refuse bad values before it starts a program. One table (options.def, thresholds.def) feeds both.
 */
#ifndef FA_REGISTRY_OPTIONS_H
#define FA_REGISTRY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/trace/format.h"

#define OPTIONS_FUNCS_MAX 32 /* frame=, frame-scope=, task=, await=, preset= entries, each list */
#define OPTIONS_TEXT_BYTES 8192
#define OPTIONS_PATH_BYTES 1024

/* Words point into `text`; a list ends at its count. */
struct options_list {
	uint32_t count;
	const char *item[OPTIONS_FUNCS_MAX];
};

struct options {
	enum trace_mode mode;
	enum trace_stacks stacks;
	bool level_full, events_lose;
	bool follow;
	bool abort_on_heap_error;
	const char *output; /* "" = default */
	const char *policy;
	struct options_list preset, frame, frame_scope, task, await, role;
	uint64_t threshold[TRACE_THRESHOLD_COUNT];
	bool threshold_given[TRACE_THRESHOLD_COUNT], mode_given,
		stacks_given; /* by name: a policy does not change them */
	size_t text_used;
	char text[OPTIONS_TEXT_BYTES];
};

/* What was wrong with a key or value, as one line without newline: what, where, what would be right. */
struct options_error {
	char line[256];
};

void options_init(struct options *options);

/* Sets one key. Returns 0, -ENOENT (unknown key; the line suggests the nearest), -EINVAL (bad value), -E2BIG (full).
   On error the key keeps its value and *error is filled. Numbers take suffixes K M G (1024) and, for ms/ns units, ms s. */
int options_set(struct options *options, const char *key, const char *value, struct options_error *error);

/* Sets one number of a table by its key. Returns its enum trace_threshold, -ENOENT (no such key; *error is untouched) or
   -EINVAL (bad value, told in *error). */
int options_threshold(uint64_t threshold[TRACE_THRESHOLD_COUNT], const char *key, const char *value,
		      struct options_error *error);

/* A function by name, glob, module!name or module+0xOFFSET, each with @* or not. */
bool options_function_valid(const char *value);

/* Splits FA_OPTIONS text ("key=value,key=value", `\,` = comma) and calls options_set for each; on_error (may be NULL)
   is called for each bad entry, parsing goes on. */
void options_parse(struct options *options, const char *text, void (*on_error)(void *context, const char *line),
		   void *context);

/* Expands %e %p %% in an output template. Returns 0 or -ENAMETOOLONG. */
int options_expand(char *out, size_t out_bytes, const char *template_text, const char *exe_name, uint32_t pid);

#endif
