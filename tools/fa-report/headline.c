/*
 * Which function of a call path a reader wants to see first: the innermost that allocates for a purpose of its own.
 * Used by every text output. Known allocation wrappers are skipped by name; in code without symbols they are recognised
 * by what makes them wrappers: the same call allocates for many different callers.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "tools/fa-report/report.h"

enum {
	LEVELS = 2, /* wrappers of wrappers, no deeper: an interpreter's loop has many callers too */
	CALLERS_FIRST = 16, /* distinct callers that make an innermost call a wrapper */
	CALLERS_SECOND = 32, /* and the call around a wrapper */
};

/* One call and the call around it, as keys of address_key(). */
struct call_pair {
	uint64_t call, caller;
};

struct wrappers {
	uint64_t *call; /* sorted */
	size_t count;
};

static uint64_t address_key(const struct trace_node *node)
{
	return (uint64_t)(uint16_t)node->module << 48 | (TRACE_NODE_OFFSET(node->offset) & 0xffffffffffffu);
}

static int compare_keys(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
	return a < b ? -1 : a > b;
}

static int compare_pairs(const void *left, const void *right)
{
	const struct call_pair *a = left, *b = right;
	return a->call != b->call ? (a->call < b->call ? -1 : 1) : a->caller < b->caller ? -1 : a->caller > b->caller;
}

static bool is_wrapper(const struct wrappers *wrappers, uint64_t key)
{
	return wrappers->count && bsearch(&key, wrappers->call, wrappers->count, sizeof key, compare_keys);
}

static bool named(struct report *report, uint32_t node)
{
	const struct symbol_place *place = symbols_of_node(report->symbols, node);
	for (size_t i = 0; i < place->count; i++)
		if (place->frame[i].function)
			return true;
	return false;
}

/* Adds the calls of one level: those whose inner calls are all wrappers, and that are reached from enough places. */
static void learn_level(struct report *report, struct wrappers *wrappers, size_t enough)
{
	const struct reader_array *nodes = reader_array(&report->reader, TRACE_KIND_NODE, 0);
	const struct model *model = &report->model;
	struct call_pair *pair = calloc(model->site_count + 1, sizeof *pair);
	uint64_t *grown = realloc(wrappers->call, (wrappers->count + model->site_count + 1) * sizeof *grown);
	size_t pairs = 0, known = wrappers->count;
	if (grown)
		wrappers->call = grown;
	for (size_t i = 0; pair && grown && i < model->site_count; i++) {
		uint32_t node = model->sites[i].record->node;
		const struct trace_node *record = node ? reader_at(nodes, node) : NULL;
		while (record && is_wrapper(wrappers, address_key(record))) {
			node = symbols_parent(report->symbols, node);
			record = node ? reader_at(nodes, node) : NULL;
		}
		uint32_t outer = record ? symbols_parent(report->symbols, node) : 0;
		const struct trace_node *caller = outer ? reader_at(nodes, outer) : NULL;
		if (caller)
			pair[pairs++] = (struct call_pair){address_key(record), address_key(caller)};
	}
	if (pairs)
		qsort(pair, pairs, sizeof *pair, compare_pairs);
	for (size_t i = 0, next; i < pairs; i = next) {
		size_t callers = 1;
		for (next = i + 1; next < pairs && pair[next].call == pair[i].call; next++)
			callers += pair[next].caller != pair[next - 1].caller;
		if (callers >= enough)
			wrappers->call[wrappers->count++] = pair[i].call;
	}
	/* New keys are in order among themselves, not among the old ones. */
	if (wrappers->count > known && known)
		qsort(wrappers->call, wrappers->count, sizeof *wrappers->call, compare_keys);
	free(pair);
}

/* One report a process: learned when the first headline is asked for. */
static const struct wrappers *learned(struct report *report)
{
	static struct wrappers wrappers;
	static bool done;
	if (!done) {
		done = true;
		for (int level = 0; level < LEVELS; level++)
			learn_level(report, &wrappers, level ? CALLERS_SECOND : CALLERS_FIRST);
	}
	return &wrappers;
}

static bool begins_with_any(const char *text, const char *const *prefix, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strncmp(text, prefix[i], strlen(prefix[i])))
			return true;
	return false;
}

/* Functions that only pass an allocation on: nobody's own code. */
static bool passes_on(const struct symbol_frame *frame)
{
	static const char *const prefixes[] = {
		"operator new", "operator delete", "std::",      "__gnu_cxx::",      "alloc::",        "<alloc::",
		"core::",       "hashbrown::",     "__rust_",    "__rdl_",           "__rg_",          "g_malloc",
		"g_realloc",    "g_free",          "g_slice",    "xmalloc",          "xrealloc",       "xcalloc",
		"SDL_malloc",   "SDL_realloc",     "SDL_calloc", "SDL_free",         "Memory::",       "CowData<",
		"PyMem_",       "PyObject_Malloc", "_PyMem_",    "_PyObject_Malloc", "_PyObject_Free", "ggc_internal_"};
	static const char *const modules[] = {"libc.so", "ld-linux", "libframealloc", "libstdc++"};
	const char *slash = frame->module ? strrchr(frame->module, '/') : NULL;
	const char *module = slash ? slash + 1 : frame->module;
	return (module && begins_with_any(module, modules, sizeof modules / sizeof *modules)) ||
	       (frame->function && begins_with_any(frame->function, prefixes, sizeof prefixes / sizeof *prefixes));
}

struct text_frame_pick text_headline(struct report *report, uint32_t node)
{
	const struct wrappers *wrappers = learned(report);
	const struct reader_array *nodes = reader_array(&report->reader, TRACE_KIND_NODE, 0);
	struct text_frame_pick first = {NULL, 0};
	size_t at = 0;
	for (bool inside = true; node; node = symbols_parent(report->symbols, node)) {
		const struct trace_node *record = reader_at(nodes, node);
		const struct symbol_place *place = symbols_of_node(report->symbols, node);
		inside = inside && record && is_wrapper(wrappers, address_key(record));
		bool skipped = inside && !named(report, node);
		for (size_t i = 0; i < place->count; i++, at++) {
			if (place->own)
				continue;
			if (!first.frame)
				first = (struct text_frame_pick){&place->frame[i], at};
			if (!skipped && !passes_on(&place->frame[i]))
				return (struct text_frame_pick){&place->frame[i], at};
		}
	}
	return first;
}
