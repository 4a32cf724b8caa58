/* Binding of frame boundaries. Calls of libc that block are bound around the call, so that the wait is known as idle
   time; everything else at its entry. */
#include "core/bind.h"

#include <errno.h>

#include "core/mark/mark.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/site.h"
#include "core/thread.h"
#include "core/trace/writer.h"

struct binding {
	struct trace_marker *record;
	uint32_t index;
	bool all_threads;
	const char *call; /* bound by interposition of this libc call */
	struct trace_marker saved; /* the record without its calls */
};

#define BINDINGS_MAX 128u
static struct binding bindings[BINDINGS_MAX];
static bool any_call_bound;
static uint32_t bindings_used;

/* The calls of libc that wait: bound around the call. */
static const char *blocking_call(const struct mark_function *function, const char *name)
{
	static const char *const calls[] = {"nanosleep", "clock_nanosleep", "usleep",  "sleep",     "epoll_wait", "epoll_pwait",
	                                    "poll",      "ppoll",           "select",  "pselect",   "sched_yield"};
	const char *file = function->module_path, *base = file ? file : "";
	for (; file && *file; file++)
		if (*file == '/')
			base = file + 1;
	if (!base_glob_match("libc.so*", base))
		return NULL;
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (base_text_equal(calls[i], name))
			return calls[i];
	return NULL;
}

/* The thread a boundary counts on; NULL when it does not count here. */
static struct thread *boundary_thread(const struct binding *binding)
{
	struct thread *thread = thread_self;
	if (unlikely(thread->gate == 0)) {
		if (atomic_load_explicit(&runtime_phase, memory_order_acquire) == RUNTIME_RECORDING && runtime_forked())
			runtime_child();
		if (atomic_load_explicit(&runtime_phase, memory_order_acquire) != RUNTIME_RECORDING)
			return NULL;
		thread = thread_attach(0);
	}
	if (!thread || !(thread->gate & THREAD_READY) || thread->gate & (THREAD_BUSY | THREAD_INTERNAL))
		return NULL;
	if (thread->role != TRACE_ROLE_FRAME) {
		if (!binding->all_threads)
			return NULL;
		thread_set_role(thread, TRACE_ROLE_FRAME);
	}
	return thread;
}

static void boundary(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	if (binding->record)
		trace_add(&binding->record->calls, 1);
	scope_frame_boundary(thread, binding->index, fp);
}

#define STACK_REACH (8ul << 20)

/* Whether this marked call is inside another one. A longjmp or an exception out of a blocking boundary leaves no trace
   but these: a later call stands at its frame or further out, or other calls have overwritten its return address. */
static bool is_nested(struct thread *thread, const uintptr_t *fp)
{
	if (!thread->marker_depth)
		return false;
	const uintptr_t *outer = thread->marker_frame;
	bool below = fp < outer && (uintptr_t)outer - (uintptr_t)fp < STACK_REACH;
	bool left = below ? outer[1] != thread->marker_return : fp >= outer;
	if (!left)
		return true;
	thread->marker_depth = 0;
	scope_idle_end(thread);
	return false;
}

static void on_entry(void *context, const uintptr_t *fp)
{
	const struct binding *binding = context;
	int saved = errno;
	struct thread *thread = boundary_thread(binding);
	if (thread && !is_nested(thread, fp)) {
		thread_busy(thread);
		boundary(thread, binding, fp);
		thread_idle(thread);
	}
	errno = saved;
}

static void on_wait(void *context, const uintptr_t *fp)
{
	const struct binding *binding = context;
	int saved = errno;
	struct thread *thread = boundary_thread(binding);
	if (thread && is_nested(thread, fp)) {
		thread->marker_depth++;
	} else if (thread) {
		thread->marker_depth = 1;
		thread->marker_frame = fp;
		thread->marker_return = fp[1];
		thread_busy(thread);
		boundary(thread, binding, fp);
		scope_idle_begin(thread);
		thread_idle(thread);
	}
	errno = saved;
}

static void on_waited(void *context)
{
	(void)context;
	int saved = errno;
	struct thread *thread = thread_self;
	if (thread->gate & THREAD_READY && thread->marker_depth && --thread->marker_depth == 0)
		scope_idle_end(thread);
	errno = saved;
}

struct binding *bind_call_enter(const char *name, const uintptr_t *fp)
{
	if (likely(!any_call_bound))
		return NULL;
	for (uint32_t i = 0; i < trace_count(&trace_markers) && i < BINDINGS_MAX; i++)
		if (bindings[i].call && base_text_equal(bindings[i].call, name)) {
			on_wait(&bindings[i], fp);
			return &bindings[i];
		}
	return NULL;
}

void bind_call_leave(struct binding *binding)
{
	on_waited(binding);
}

struct search {
	const char *spec; /* as given */
	const char *function;
	bool all_threads;
};

static struct trace_marker *marker_add(const struct search *search, uint32_t *index)
{
	struct trace_marker record = {.kind = TRACE_MARKER_FRAME, .module = TRACE_NO_MODULE, .threads_all = search->all_threads};
	base_text_copy(record.name, sizeof record.name, search->spec);
	struct trace_marker *made = trace_append(&trace_markers, &record, index);
	if (!made || *index >= BINDINGS_MAX) {
		trace_loss(TRACE_LOSS_MARKERS, 1);
		return NULL;
	}
	return made;
}

static bool bind_function(void *context, const struct mark_function *function)
{
	const struct search *search = context;
	uint32_t index;
	struct trace_marker *record = marker_add(search, &index);
	if (!record)
		return false;
	struct binding *binding = &bindings[index];
	const char *call = blocking_call(function, search->function);
	*binding = (struct binding){.record = record, .index = index, .all_threads = search->all_threads};
	record->module = site_module_of(function->address);
	record->offset = function->address - function->module_base;
	const char *reason = NULL;
	int error = call ? patch_around(function, on_wait, on_waited, binding, &reason)
	                              : patch_entry(function, on_entry, binding, &reason);
	if (!error) {
		record->binding = TRACE_BINDING_PATCH;
		return true;
	}
	base_text_copy(record->reason, sizeof record->reason, reason ? reason : "refused");
	if (call) {
		record->binding = TRACE_BINDING_CALL;
		binding->call = call;
		any_call_bound = true;
	}
	return true;
}

static void bind_frame(const char *spec)
{
	char function[256];
	struct search search = {.spec = spec};
	size_t length = base_text_copy(function, sizeof function, spec);
	if (length > 2 && base_text_equal(function + length - 2, "@*")) {
		search.all_threads = true;
		function[length - 2] = 0;
	}
	/* `module!name`: what is compared with libc's calls is the name. */
	const char *name = function;
	for (const char *c = function; *c; c++)
		if (*c == '!')
			name = c + 1;
	const char *reason = NULL;
	search.function = name;
	if (finder_each(function, bind_function, &search, &reason) > 0)
		return;
	uint32_t index;
	struct trace_marker *record = marker_add(&search, &index);
	if (record)
		base_text_copy(record->reason, sizeof record->reason,
		               reason ? reason : "no function of this name in the modules loaded at start");
}

void bind_child(void)
{
	/* The parent's records went with its mapping; what they said was kept beside the bindings. */
	for (uint32_t i = 0; i < bindings_used; i++) {
		struct trace_marker *record = trace_append(&trace_markers, &bindings[i].saved, NULL);
		bindings[i].record = record;
	}
}

/* Marker records as they are now, for children. */
static void save_records(void)
{
	bindings_used = trace_count(&trace_markers);
	for (uint32_t i = 0; i < bindings_used && i < BINDINGS_MAX; i++)
		bindings[i].saved = *(struct trace_marker *)trace_at(&trace_markers, i);
}

void bind_markers(void)
{
	bool wanted = false;
	for (uint32_t i = 0; i < runtime.options.frame.count; i++)
		wanted |= !base_text_equal(runtime.options.frame.item[i], "none");
	if (!wanted)
		return;
	if (patch_init()) {
		trace_loss(TRACE_LOSS_PATCHER, 1);
	}
	for (uint32_t i = 0; i < runtime.options.frame.count; i++)
		if (!base_text_equal(runtime.options.frame.item[i], "none"))
			bind_frame(runtime.options.frame.item[i]);
	save_records();
}
