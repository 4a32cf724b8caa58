/* The ways that there are, the best first: a patch; for calls of libc that wait, the shim's own hook of them; the modules'
   tables. Not on two threads at once. */
#include "core/connect.h"

#include "core/mark/got.h"
#include "core/mark/tokio.h"
#include "core/trace/writer.h"

static void append(struct binding **list, struct binding *binding)
{
	while (*list && *list != binding)
		list = &(*list)->next;
	*list = binding;
}

int connect_call_of(const char *name)
{
	for (int call = 0; call < CALL_COUNT; call++)
		if (base_text_equal(call_name((enum call)call), name))
			return call;
	return -1;
}

bool connect_call(struct binding *binding, const char *name)
{
	int call = connect_call_of(name);
	if (call < 0)
		return false;
	binding->described.binding = TRACE_BINDING_CALL;
	append(&marker_on_call[call], binding);
	return true;
}

static void make_patcher_ready(void)
{
	static bool asked;
	if (!asked && patch_init())
		trace_loss(TRACE_LOSS_PATCHER, 1);
	asked = true;
}

/* 0, or the reason in *reason. */
static int patch(struct binding *binding, const struct mark_function *function, const struct connect_wish *wish,
		 const char **reason)
{
	if (wish->first) {
		append(&wish->first->next, binding);
		binding->end = wish->first->end;
		binding->jump = wish->first->jump;
		return 0;
	}
	make_patcher_ready();
	if (!wish->around) { /* nesting.h asks */
		binding->end = mark_function_end(function->address, function->size);
		binding->jump = mark_jump_of(function->address);
	}
	int error = wish->around ? patch_around(function, marker_scope_enter, marker_scope_leave, binding,
						wish->registers_only, reason)
				 : patch_entry(function, marker_entry, binding, reason);
	binding->leads = !error;
	return error;
}

/* Entry callbacks by way of an around stub. */
static bool pass_by(void *context, const uintptr_t *fp, bool returns)
{
	(void)returns;
	marker_entry(context, fp);
	return false;
}

/* Calls through the modules' tables, where code can't be written. */
static bool connect_slots(struct binding *binding, const struct mark_function *function, const char *why)
{
	const char *reason;
	struct trace_marker *described = &binding->described;
	if (got_around(function, binding->around ? marker_scope_enter : pass_by, marker_scope_leave, binding, false,
		       &reason))
		return false;
	described->binding = TRACE_BINDING_GOT;
	size_t at = base_text_copy(described->reason, sizeof described->reason, why);
	base_text_copy(described->reason + at, sizeof described->reason - at, ": calls between modules only");
	return true;
}

struct table_binding {
	struct binding *binding;
	const struct mark_function *function;
	bool bound;
};

static void connect_table(void *context, uintptr_t slot)
{
	struct table_binding *table = context;
	struct binding *binding = table->binding;
	const char *reason;
	table->bound |= !got_slot(table->function, slot, binding->around ? marker_scope_enter : pass_by,
				  marker_scope_leave, binding, &reason);
}

/* A task's poll by the tables that the runtime calls it through, whatever stands against a patch. */
static void connect_tables(struct binding *binding, const struct mark_function *function)
{
	struct table_binding table = {binding, function, false};
	tokio_slots(function->address, connect_table, &table);
	if (table.bound)
		binding->described.binding = TRACE_BINDING_GOT;
}

void connect_function(struct binding *binding, const struct mark_function *function, const struct connect_wish *wish)
{
	struct trace_marker *described = &binding->described;
	const char *reason = NULL;
	binding->around = wish->around;
	if (!patch(binding, function, wish, &reason)) {
		described->binding = TRACE_BINDING_PATCH;
		binding->address = function->address;
		return;
	}
	base_text_copy(described->reason, sizeof described->reason, reason ? reason : "refused");
	if (wish->call)
		connect_call(binding, wish->call);
	else if (wish->tables)
		connect_tables(binding, function);
	else if (got_can_help(reason) && !wish->reads_arguments)
		connect_slots(binding, function, reason);
}
