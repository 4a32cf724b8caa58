/* Options' rules (`--role ROLE=GLOB`) come before the policy's, in the order they were given. */
#include "core/role.h"

#include <sys/prctl.h>

#include "core/mark/mark.h"
#include "core/policy.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/trace/writer.h"

#define STARTS_MAX 64u

/* Start routines that rules name: few, added while markers are bound, read when a thread starts. */
static struct {
	uintptr_t address; /* 0: it has gone with its module */
	uint32_t rule;
} starts[STARTS_MAX];
static _Atomic uint32_t start_count;

static bool add_start(void *context, const struct mark_function *function)
{
	uint32_t rule = *(const uint32_t *)context, count = atomic_load(&start_count), at = count;
	for (uint32_t i = 0; i < count; i++) {
		if (starts[i].address == function->address && starts[i].rule == rule)
			return true;
		if (!starts[i].address && at == count)
			at = i;
	}
	if (at == STARTS_MAX) {
		trace_loss(TRACE_LOSS_MARKERS, 1);
		return false;
	}
	starts[at].rule = rule;
	__atomic_store_n(&starts[at].address, function->address, __ATOMIC_RELEASE);
	if (at == count)
		atomic_store(&start_count, count + 1);
	return true;
}

void role_forget(uintptr_t start, uintptr_t end)
{
	for (uint32_t i = 0; i < atomic_load(&start_count); i++)
		if (starts[i].address >= start && starts[i].address < end)
			__atomic_store_n(&starts[i].address, 0, __ATOMIC_RELEASE);
}

void role_bind(void)
{
	const char *reason;
	for (uint32_t i = 0; i < policy_in_force.role_count; i++)
		if (policy_in_force.role[i].test == POLICY_ROLE_START)
			finder_each(policy_in_force.role[i].pattern, add_start, &i, &reason);
}

static bool starts_at(uint32_t rule, uintptr_t address)
{
	for (uint32_t i = 0; address && i < atomic_load(&start_count); i++)
		if (starts[i].rule == rule && starts[i].address == address)
			return true;
	return false;
}

static bool fits(uint32_t rule, const struct thread *thread)
{
	const struct policy_role *role = &policy_in_force.role[rule];
	switch (role->test) {
	case POLICY_ROLE_NAME:
		return base_glob_match(role->pattern, thread->record->name);
	case POLICY_ROLE_START:
		return starts_at(rule, thread->record->start_routine);
	case POLICY_ROLE_CREATOR:
		return role->creator != TRACE_ROLE_NONE && thread->creator_role == role->creator;
	case POLICY_ROLE_MAIN:
		return thread->record->tid == trace_header->pid;
	case POLICY_ROLE_PRESENTS:
		return false;
	}
	return false;
}

enum trace_role role_of(const struct thread *thread)
{
	for (uint32_t i = 0; i < policy_in_force.role_count; i++)
		if (fits(i, thread))
			return policy_in_force.role[i].role;
	return TRACE_ROLE_NONE;
}

bool role_of_presenter(const struct thread *thread)
{
	if (thread->role != TRACE_ROLE_NONE)
		return false;
	for (uint32_t i = 0; i < policy_in_force.role_count; i++)
		if (policy_in_force.role[i].test == POLICY_ROLE_PRESENTS &&
		    policy_in_force.role[i].role == TRACE_ROLE_FRAME)
			return true;
	return false;
}

void role_set(struct thread *thread, enum trace_role role)
{
	if (thread->role == role)
		return;
	thread->role = (uint8_t)role;
	thread->record->role = role;
	thread_choose_classes(thread);
	scope_settle(thread);
}

/* Another thread's: what its state says is its own to change. It takes the general path from now on, and comes by. */
static void want_role(struct thread *thread, enum trace_role role)
{
	if (thread->role == role)
		return;
	thread->record->role = role;
	atomic_store_explicit(&thread->role_wanted, (uint8_t)(role + 1), memory_order_release);
	size_t *const limits[] = {&thread->bump_max, &thread->bump_class_max, &thread->small_max,
				  &thread->small_class_max};
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
		__atomic_store_n(limits[i], 0, __ATOMIC_RELAXED);
}

void role_take_wanted(struct thread *thread)
{
	uint8_t wanted = atomic_exchange_explicit(&thread->role_wanted, 0, memory_order_acquire);
	if (wanted)
		role_set(thread, (enum trace_role)(wanted - 1));
}

void role_named(struct thread *thread, const char *name)
{
	char comm[32] = "";
	if (!name) {
		prctl(PR_GET_NAME, comm);
		name = comm;
	}
	base_text_copy(thread->record->name, sizeof thread->record->name, name);
	bool is_main = thread->record->tid == trace_header->pid;
	if (is_main)
		thread->record->flags |= TRACE_THREAD_MAIN;
	enum trace_role role = role_of(thread);
	if (role == TRACE_ROLE_NONE && is_main && policy_marks_frames() && !policy_names_frame_threads())
		role = TRACE_ROLE_FRAME;
	if (role == TRACE_ROLE_NONE)
		return;
	if (thread == thread_self)
		role_set(thread, role);
	else
		want_role(thread, role);
}
