/*
 * Policies: INI text that says what the markers, roles, rules, regions and limits of a program are. The shim reads one
 * at start-up (FA_POLICY), presets are policies that ship with the library, and `fa-report policy --check` reads them
 * for people. The parser is inih; this module gives the lines their meaning. Nothing here allocates: everything lies in
 * the caller's struct, words in its `text`.
 *
 * Sections and keys (`...`: the key may be repeated):
 *
 *   [preset]          about = TEXT; tried = TEXT ...                        of a preset: what it is for, tried on what
 *   [markers]         frame = FUNC ...        frame boundary at each entry  (FUNC as for fa-run --frame)
 *                     frame-scope = FUNC ...  frame from entry to return
 *                     task = FUNC ...         task poll: its first argument is the task, its return the await
 *                     task-end = FUNC ...     ends its first argument, a task
 *                     stack = FUNC low=WHERE size=WHERE [entry=WHERE] ...   prepares a coroutine's stack; top=WHERE
 *                                             instead of low: its end. WHERE is argN, or [argN+OFFSET], the word there
 *                     switch = FUNC to=WHERE ...   goes on at another stack pointer
 *                     tokio = yes             polls of Tokio's tasks, found by their tables
 *                     await = FUNC ...        await point
 *                     transfer = FUNC ...     hands its first argument, a block, on to another thread
 *   [automatic]       present = FUNC ...      candidates for the frame boundary, in order of preference: calls that
 *                     wait = FUNC ...         show a picture, event-loop waits, pacing sleeps (DESIGN 5). A [automatic]
 *                     sleep = FUNC ...        section replaces the built-in list.
 *   [region NAME]     scope = FUNC ...        allocations made between its entry and return belong to the region
 *                     module = GLOB ...       code that the tag NAME belongs to (FA801)
 *                     budget = BYTES          FA301: bytes a frame may allocate in it
 *   [role ROLE]       name = GLOB ...         threads whose name matches; ROLE: frame, worker, async, io
 *                     start = FUNC ...        whose start routine is FUNC
 *                     creator = ROLE ...      that a thread of this role created
 *                     main = yes              the main thread
 *                     presents = yes          the thread that calls a frame marker
 *                     budget = BYTES          FA301: bytes one frame of such a thread may allocate
 *   [rule NAME]       tier = frame|pool|heap  where blocks go for which all that follows is true; rules are tried in the
 *                     site = FUNC             order they stand in. site: a function anywhere on the call path
 *                     module = GLOB           module of the code that called the allocator
 *                     size = N|A..B|..B|A..   requested bytes, both ends included
 *                     tag = NAME              region
 *   [thresholds]      KEY = NUMBER            any numeric option of the registry (fa-run --list-options)
 *   [levels]          FA123 = allow|hint|warn|deny    or a code's name
 *   [suppress NAME]   code = FA123            code or name
 *                     path = GLOB             over the functions of the call path, or `*`
 *                     why = TEXT              required
 *   [options]         mode, stacks            as on the command line, which wins over the policy
 *
 * A repeatable key takes further values from indented lines below it, about and why continue there; an indented
 * `KEY =` is a key all the same. `;` after white space begins a comment, `#` only at a line's begin.
 */
#ifndef FA_REGISTRY_POLICY_H
#define FA_REGISTRY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/registry/options.h"
#include "core/trace/format.h"

#define POLICY_TEXT_BYTES (64u << 10)
#define POLICY_MARKERS_MAX 256u
#define POLICY_REGIONS_MAX 64u /* region 0 means none, so 63 can be named */
#define POLICY_MODULES_MAX 128u
#define POLICY_ROLES_MAX 64u
#define POLICY_RULES_MAX 32u
#define POLICY_CODES_MAX 64u
#define POLICY_SUPPRESSIONS_MAX 64u

enum policy_marker_kind {
	POLICY_FRAME,
	POLICY_FRAME_SCOPE,
	POLICY_TASK,
	POLICY_AWAIT,
	POLICY_TRANSFER,
	POLICY_REGION, /* a region's scope */
	POLICY_TASK_END,
	POLICY_STACK,
	POLICY_SWITCH,
	POLICY_PRESENT, /* candidates */
	POLICY_WAIT,
	POLICY_SLEEP,
};

/* Where a marked function is given something: an argument, or the word in memory at argument + offset. */
struct policy_where {
	uint8_t argument; /* 1 to 6, as passed in registers; 0: not given */
	bool memory;
	uint16_t offset;
};

/* All words point into policy.text and are NUL-terminated. */
struct policy_marker {
	enum policy_marker_kind kind;
	const char *function;
	uint32_t region; /* POLICY_REGION: index into regions */
	bool optional; /* from a preset: that it is not there is no news */
	struct policy_where low, top, size, entry; /* POLICY_STACK; low or top */
	struct policy_where to; /* POLICY_SWITCH */
	bool tokio; /* POLICY_TASK: all functions that core/mark/tokio.h finds; `function` is a name for them */
};

struct policy_region {
	const char *name;
	uint64_t budget_bytes; /* 0: none */
};

struct policy_region_module {
	uint32_t region;
	const char *glob;
};

enum policy_role_test {
	POLICY_ROLE_NAME,
	POLICY_ROLE_START,
	POLICY_ROLE_CREATOR,
	POLICY_ROLE_MAIN,
	POLICY_ROLE_PRESENTS
};
struct policy_role {
	enum trace_role role;
	enum policy_role_test test;
	const char *pattern; /* NAME: glob; START: FUNC */
	enum trace_role creator; /* CREATOR */
};

struct policy_rule {
	const char *name;
	enum trace_tier tier;
	const char *site, *module; /* NULL: any */
	uint64_t size_min, size_max; /* 0 and UINT64_MAX: any */
	uint32_t region; /* 0: any */
};

struct policy_level {
	uint32_t code; /* 601 for FA601 */
	enum trace_level level; /* deny is TRACE_LEVEL_ERROR */
};

struct policy_suppression {
	const char *name, *path, *why;
	uint32_t code;
};

struct policy {
	uint32_t marker_count, region_count, module_count, role_count, rule_count, level_count, suppression_count;
	struct policy_marker marker[POLICY_MARKERS_MAX];
	struct policy_region region[POLICY_REGIONS_MAX]; /* [0] is unused; region_count counts it once there is any */
	struct policy_region_module module[POLICY_MODULES_MAX];
	struct policy_role role[POLICY_ROLES_MAX];
	struct policy_rule rule[POLICY_RULES_MAX];
	struct policy_level level[POLICY_CODES_MAX];
	struct policy_suppression suppression[POLICY_SUPPRESSIONS_MAX];
	uint64_t role_budget_bytes[TRACE_ROLE_IO + 1]; /* by enum trace_role, 0: none */
	uint64_t threshold[TRACE_THRESHOLD_COUNT];
	bool threshold_given[TRACE_THRESHOLD_COUNT];
	bool mode_given, stacks_given, automatic_given;
	enum trace_mode mode;
	enum trace_stacks stacks;
	const char *about, *tried; /* of the preset read last; "" when none. Several `tried` lines are joined by "; " */
	uint32_t errors; /* lines refused so far */
	size_t text_used;
	char text[POLICY_TEXT_BYTES];
};

void policy_init(struct policy *policy);

struct policy_source {
	const char *name; /* of the file, for messages */
	const char *text; /* `bytes` long, not necessarily terminated */
	size_t bytes;
	bool preset; /* its markers are optional, and it must say what it is for */
};

/* Reads one source into *policy, adding to what is there. Each thing that is wrong is told to on_error (may be NULL) as
   one line, "FILE:LINE: what is wrong; what would be right", without newline, and left out; reading goes on. Returns the
   number of such lines. No malloc, no stdio, errno untouched; any bytes are safe to read. */
uint32_t policy_read(struct policy *policy, const struct policy_source *source,
		     void (*on_error)(void *context, const char *line), void *context);

/* A region by name; 0 when there is none. */
uint32_t policy_region_named(const struct policy *policy, const char *name);

#endif
