/* What every command gets: the model, its names, what the command line asked for, and where to write. */
#ifndef FA_REPORT_REPORT_H
#define FA_REPORT_REPORT_H

#include <stdio.h>

#include "tools/fa-report/model.h"
#include "tools/fa-report/symbols.h"

struct report_options {
	size_t top; /* 0: the command's own default */
	bool color;
	const char **source_path;
	size_t source_paths;
	const char **route; /* replay: SITE=TIER */
	size_t routes;
};

struct report {
	const char *path;
	struct reader reader;
	struct model model;
	struct symbols *symbols;
	struct report_options options;
	FILE *out;
};

/* Takes what the policy of the run suppresses out of the violations, and counts it. */
void suppress_apply(struct report *report);
void suppress_tell(struct report *report); /* a line for each suppression that something fell under */

/* Formats. */
void out_json(struct report *report);

/* Commands: each prints its part as text. */
void cmd_summary(struct report *report);
void cmd_violations(struct report *report);
void cmd_sites(struct report *report);
void cmd_leaks(struct report *report);
void cmd_frames(struct report *report);
void cmd_threads(struct report *report);
void cmd_markers(struct report *report);
void cmd_regions(struct report *report);
void regions_table(struct report *report); /* nothing where there are none */
void cmd_tasks(struct report *report);
void tasks_table(struct report *report); /* nothing where there are none */
void cmd_suggest(struct report *report);
void cmd_replay(struct report *report); /* ends the program with 2 where it cannot */
void cmd_dump(struct report *report);
/* A stream that writes to `out`, which stays open, without control characters; with `color` but for those. NULL: no memory. */
FILE *printable_open(FILE *out, bool color);

int cmd_list(FILE *out, const char *place, bool json); /* a folder or a recording */
int cmd_explain(FILE *out, const char *code, bool json);
int cmd_policy(FILE *out, char *const *paths); /* NULL-terminated; 2 when anything is wrong in one of them */

const char *text_role(uint32_t role);
const char *text_tier(int tier);
const char *text_mode(uint32_t mode);
const char *text_stacks(uint32_t stacks);
const char *text_level(enum trace_level level); /* allow hint warning error */
const char *text_binding(uint32_t binding); /* patch got call api; NULL: not bound */
const char *text_marker_kind(uint32_t kind);
const char *text_automatic(uint32_t automatic); /* off searched found */
/* "1.5 MiB", "12 ms", "1,234,567": each returns one of a few rotating buffers. */
const char *text_bytes(double bytes);
const char *text_time(double ns);
const char *text_count(uint64_t count);
const char *text_plural(uint64_t count); /* what stands behind a noun: "s", or nothing for 1 */
const char *text_percent(uint64_t part, uint64_t whole);

/* Violations as the text shows them: of one code and site, whatever the other path. */
struct text_frame_pick {
	const struct symbol_frame *frame; /* the one that a reader wants to see first; NULL: none known */
	size_t at; /* its position in the path, from the innermost */
};
/* The frame to name a path by: the innermost that is neither the shim, libc, nor a language's allocation wrapper. */
struct text_frame_pick text_headline(struct report *report, uint32_t node);
void text_frame_name(char *out, size_t bytes, const struct symbol_frame *frame);
/* A site by its headline; without call paths by its size class and role. */
void text_site_name(char *out, size_t bytes, struct report *report, const struct model_site *site);
/* Prints a path, innermost first, trimmed: what lies inside the headline is left out, and what lies far outside. */
void text_path(struct report *report, const char *label, uint32_t node, size_t frames);
/* The source line, when there is a file to be found. */
void text_source_line(struct report *report, const struct symbol_frame *frame);
/* What a violation means here, in one sentence. */
void text_violation_message(char *out, size_t bytes, struct report *report, const struct model_violation *violation);
const char *text_task_kind(uint32_t kind); /* poll coroutine api others */
const struct symbol_frame *text_task_function(struct report *report, const struct model_task *task); /* NULL: none */
void text_task_name(char *out, size_t bytes, struct report *report, const struct model_task *task);
void text_losses(struct report *report);
const char *text_color(const struct report *report, const char *code);
/* Stable over runs and address layouts of the same build: 16 hex digits. */
void text_fingerprint(char out[20], struct report *report, const struct model_violation *violation);

#endif
