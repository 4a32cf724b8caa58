/* How a marker binds depends on its kind: calls of libc that wait are bound around the call, so that the wait is known as
   idle time; scopes around the function; everything else at its entry (connect.h). Runs in the constructor and, for modules that are
   loaded later, inside ld.so, which holds its lock: never on two threads at once. */
#include "core/bind.h"

#include <link.h>

#include "core/automatic.h"
#include "core/connect.h"
#include "core/mark/got.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/mark/tokio.h"
#include "core/newcomers.h"
#include "core/node.h"
#include "core/path/path.h"
#include "core/policy.h"
#include "core/role.h"
#include "core/rule.h"
#include "core/runtime.h"
#include "core/trace/writer.h"

#define BINDINGS_MAX 1024u

static struct binding bindings[BINDINGS_MAX];
static uint32_t bindings_used;

/* What became of each marker of the policy. */
static struct {
	struct binding *placeholder; /* says why nothing was bound, until something is */
	bool bound, met; /* a function was bound; one was found */
} outcome[POLICY_MARKERS_MAX];

static bool started;

/* The module at [start, end) is gone: its bindings wait for it to come again. */
static void forget(uintptr_t start, uintptr_t end)
{
	patch_forget(start, end);
	rule_forget(start, end);
	role_forget(start, end);
	for (uint32_t i = 0; i < bindings_used; i++)
		if (bindings[i].address >= start && bindings[i].address < end) {
			bindings[i].address = 0;
			bindings[i].next = NULL;
		}
}

struct search {
	const struct policy_marker *marker;
	uint32_t which; /* its place in the policy */
	char function[256]; /* without @* */
	const char *name; /* without the module */
	bool all_threads;
	bool found;
};

static enum trace_marker_kind record_kind(enum policy_marker_kind kind)
{
	switch (kind) {
	case POLICY_FRAME:
		return TRACE_MARKER_FRAME;
	case POLICY_FRAME_SCOPE:
		return TRACE_MARKER_FRAME_SCOPE;
	case POLICY_TASK:
		return TRACE_MARKER_TASK;
	case POLICY_AWAIT:
		return TRACE_MARKER_AWAIT;
	case POLICY_TRANSFER:
		return TRACE_MARKER_TRANSFER;
	case POLICY_REGION:
		return TRACE_MARKER_REGION;
	case POLICY_TASK_END:
		return TRACE_MARKER_TASK_END;
	case POLICY_STACK:
		return TRACE_MARKER_STACK;
	case POLICY_SWITCH:
		return TRACE_MARKER_SWITCH;
	case POLICY_PRESENT:
	case POLICY_WAIT:
	case POLICY_SLEEP:
		break;
	}
	return TRACE_MARKER_CANDIDATE;
}

static bool is_candidate(const struct policy_marker *marker)
{
	return marker->kind >= POLICY_PRESENT;
}

static struct binding *binding_add(const struct search *search)
{
	if (bindings_used == BINDINGS_MAX) {
		trace_loss(TRACE_LOSS_MARKERS, 1);
		return NULL;
	}
	struct binding *binding = &bindings[bindings_used++];
	const struct policy_marker *marker = search->marker;
	*binding = (struct binding){.kind = marker->kind, .all_threads = search->all_threads, .tag = marker->region};
	binding->described = (struct trace_marker){.kind = record_kind(marker->kind),
						   .module = TRACE_NO_MODULE,
						   .threads_all = search->all_threads,
						   .candidate = is_candidate(marker) ? marker->kind : 0,
						   .tag = marker->region};
	base_text_copy(binding->described.name, sizeof binding->described.name,
		       is_candidate(marker) ? search->name : marker->function);
	return binding;
}

/* Makes the record say what the binding has become. Candidates get one when they are called, or refused. */
static void publish(struct binding *binding)
{
	if (binding->described.candidate && !binding->record && binding->described.binding != TRACE_BINDING_NONE)
		return;
	if (!marker_record(binding))
		return;
	struct trace_marker *record = binding->record;
	record->binding = binding->described.binding;
	record->module = binding->described.module;
	record->offset = binding->described.offset;
	if (record->automatic || binding->described.candidate)
		return; /* its reason is the evidence */
	base_text_copy(record->reason, sizeof record->reason, binding->described.reason);
}

/* The binding for a function that the marker was found to name: the one that stood for it before its module was
   unloaded, the placeholder, or a new one. */
static struct binding *binding_for(const struct search *search, const struct mark_function *function)
{
	uintptr_t offset = function->address - function->module_base;
	for (uint32_t i = 0; i < bindings_used; i++) {
		struct binding *known = &bindings[i];
		if (known->marker != search->which || known->address ||
		    known->described.binding != TRACE_BINDING_PATCH || known->described.offset != offset ||
		    known->described.module == TRACE_NO_MODULE)
			continue;
		const struct trace_module *module = trace_at(&trace_modules, known->described.module);
		if (base_text_equal(module->path, function->module_path))
			return known;
	}
	struct binding *placeholder = outcome[search->which].placeholder;
	outcome[search->which].placeholder = NULL;
	struct binding *binding = placeholder ? placeholder : binding_add(search);
	if (binding)
		binding->marker = search->which;
	return binding;
}

static bool is_libc(const struct mark_function *function)
{
	return function->module_path && base_glob_match("libc.so*", base_file_name(function->module_path));
}

/* The first binding of the same function and the same way of binding: it is the patch's context. */
static struct binding *first_of(uintptr_t address, bool around)
{
	for (uint32_t i = 0; i < bindings_used; i++)
		if (bindings[i].address == address && bindings[i].around == around && bindings[i].leads)
			return &bindings[i];
	return NULL;
}

static bool bind_function(void *context, const struct mark_function *function)
{
	struct search *search = context;
	enum policy_marker_kind kind = search->marker->kind;
	search->found = outcome[search->which].met = true;
	struct binding *binding = binding_for(search, function);
	if (!binding)
		return false;
	struct trace_marker *described = &binding->described;
	described->module = node_module_of(function->address);
	described->offset = function->address - function->module_base;
	described->reason[0] = 0;
	bool waits = (kind == POLICY_FRAME || kind == POLICY_AWAIT) && is_libc(function) &&
		     connect_call_of(search->name) >= 0;
	bool scope =
		kind == POLICY_FRAME_SCOPE || kind == POLICY_REGION || kind == POLICY_TASK || kind == POLICY_TASK_END;
	bool around = waits || scope, tokio = search->marker->tokio;
	struct connect_wish wish = {
		.first = first_of(function->address, around),
		.call = waits ? search->name : NULL,
		.around = around,
		.registers_only = waits || tokio,
		.tables = tokio,
		.reads_arguments = kind == POLICY_TRANSFER || kind == POLICY_STACK || kind == POLICY_SWITCH,
	};
	connect_function(binding, function, &wish);
	outcome[search->which].bound = described->binding != TRACE_BINDING_NONE;
	if (is_candidate(search->marker) && outcome[search->which].bound && !binding->watched) {
		binding->watched = true;
		automatic_watch(binding, search->which);
	}
	publish(binding);
	return true;
}

/* FUNC[@*]; of `module!name` what is compared with libc's calls is the name. */
static struct search search_of(uint32_t which)
{
	const struct policy_marker *marker = &policy_in_force.marker[which];
	struct search search = {.marker = marker, .which = which};
	size_t length = base_text_copy(search.function, sizeof search.function, marker->function);
	if (length > 2 && base_text_equal(search.function + length - 2, "@*")) {
		search.all_threads = true;
		search.function[length - 2] = 0;
	}
	return search;
}

static const char *name_in(const char *function)
{
	const char *name = function;
	for (const char *c = function; *c; c++)
		if (*c == '!')
			name = c + 1;
	return name;
}

static bool is_plain(const char *function)
{
	for (; *function; function++)
		if (!(*function == '_' || (*function >= '0' && *function <= '9') ||
		      ((*function | 32) >= 'a' && (*function | 32) <= 'z')))
			return false;
	return true;
}

/* Nothing has been found: the record says so, until a module comes that has it. */
static void explain(struct search *search, const char *reason)
{
	if (search->marker->optional || outcome[search->which].met || outcome[search->which].placeholder)
		return;
	struct binding *binding = binding_add(search);
	if (!binding)
		return;
	binding->marker = search->which;
	base_text_copy(binding->described.reason, sizeof binding->described.reason,
		       reason ? reason : "no function of this name in the modules loaded so far");
	outcome[search->which].placeholder = binding;
	publish(binding);
}

static bool takes_part(uint32_t which)
{
	return !is_candidate(&policy_in_force.marker[which]) || !policy_marks_frames();
}

/* What comes from a list of names that are exported if they are there at all: no table is searched for it. */
static bool is_listed(uint32_t which)
{
	const struct policy_marker *marker = &policy_in_force.marker[which];
	return (is_candidate(marker) || marker->optional) && !marker->tokio && is_plain(marker->function);
}

/* That there is no Tokio, or one that is not known, is news also when a preset asked. */
static void bind_tokio(uint32_t which)
{
	struct search search = search_of(which);
	const char *unknown;
	search.name = search.function;
	tokio_each(bind_function, &search, &unknown);
	struct binding *told = outcome[which].placeholder;
	if (!unknown && (told || outcome[which].met))
		return;
	if (!told)
		told = binding_add(&search);
	if (!told)
		return;
	told->marker = which;
	base_text_copy(told->described.reason, sizeof told->described.reason,
		       unknown ? unknown : "no Tokio in the modules loaded so far");
	outcome[which].met |= unknown != NULL;
	outcome[which].placeholder = unknown ? NULL : told;
	publish(told);
}

static void bind_marker(uint32_t which)
{
	if (policy_in_force.marker[which].tokio) {
		bind_tokio(which);
		return;
	}
	struct search search = search_of(which);
	const char *reason = NULL;
	search.name = name_in(search.function);
	finder_each(search.function, bind_function, &search, &reason);
	if (!search.found)
		explain(&search, reason);
}

/* A call that the shim interposes needs no patch to be watched. */
static bool bind_interposed(uint32_t which)
{
	struct search search = search_of(which);
	search.name = search.function;
	if (!is_candidate(search.marker) || connect_call_of(search.name) < 0)
		return false;
	struct binding *binding = outcome[which].bound ? NULL : binding_add(&search);
	if (binding && connect_call(binding, search.name)) {
		outcome[which].bound = true;
		automatic_watch(binding, which);
	}
	return true;
}

static void bind_listed(void *context, size_t name, const struct mark_function *function)
{
	const uint32_t *which = context;
	struct search search = search_of(which[name]);
	search.name = search.function;
	bind_function(&search, function);
}

static void bind_all(void)
{
	const char *names[POLICY_MARKERS_MAX];
	uint32_t listed[POLICY_MARKERS_MAX], count = 0;
	for (uint32_t which = 0; which < policy_in_force.marker_count; which++) {
		if (!takes_part(which) || bind_interposed(which))
			continue;
		if (is_listed(which)) {
			listed[count] = which;
			names[count++] = policy_in_force.marker[which].function;
		} else {
			bind_marker(which);
		}
	}
	if (count)
		finder_exported(names, count, bind_listed, listed);
	role_bind();
	rule_bind();
	patch_release();
}

static void bind_new_modules(void *a, void *b)
{
	static bool inside; /* the patcher opens its disassembler, which is a change of the list as well */
	(void)a, (void)b;
	if (_r_debug.r_state == RT_DELETE)
		path_modules_leaving();
	if (_r_debug.r_state != RT_CONSISTENT)
		return;
	path_modules_told();
	if (inside || !started)
		return;
	inside = true;
	thread_internal_begin();
	if (newcomers_look(forget)) {
		got_adopt(newcomers_image);
		/* The child of a fork that does not record has nobody to bind for. */
		if (atomic_load(&runtime_phase) == RUNTIME_RECORDING && !runtime_forked()) {
			finder_only(newcomers_image);
			patch_fresh(newcomers_hold);
			bind_all();
			patch_fresh(NULL);
			finder_only(NULL);
		}
		newcomers_met();
	}
	thread_internal_end();
	inside = false;
}

/* Inside dlopen or dlclose, on any thread: ld.so's list of modules has changed. */
__attribute__((target("general-regs-only"))) static void modules_changed(void *context, const uintptr_t *fp)
{
	(void)context, (void)fp;
	patch_guarded(bind_new_modules, NULL, NULL);
}

void bind_markers(void)
{
	newcomers_look(forget);
	bind_all();
	newcomers_met();
	const char *reason = patch_loader_event(modules_changed);
	if (reason)
		trace_loss(TRACE_LOSS_LATE_MODULES, 1);
	else
		path_modules_told();
	started = true;
}

void bind_child(void)
{
	/* The parent's records went with its mapping; what they said was kept beside the bindings. */
	automatic_child();
	for (uint32_t i = 0; i < bindings_used; i++) {
		bindings[i].record = NULL;
		bindings[i].owner = NULL;
		bindings[i].task_type = 0;
		if (!bindings[i].described.candidate)
			publish(&bindings[i]);
	}
}
