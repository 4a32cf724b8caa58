/* Inside a patched function: general registers only, and what looks at code through the guard. */
#include "core/nesting.h"

#include "core/mark/mark.h"
#include "core/marker.h"
#include "core/path/path.h"
#include "core/scope_stack.h"

#define JUMPS_MAX 4u /* on the way from one marked function to another */

struct look {
	const uintptr_t *fp, *last;
	uintptr_t pc;
};

static void walk_back(void *given, void *unused)
{
	struct look *look = given;
	(void)unused;
	look->pc = path_pc_within(look->fp, look->last);
}

static bool is_in(uintptr_t start, uintptr_t end, uintptr_t return_address)
{
	return return_address > start && return_address <= end;
}

static uintptr_t target_of(struct mark_jump jump)
{
	return jump.slot ? *jump.slot : jump.target;
}

/* Where the jumps end that a function consists of. */
struct chase {
	struct mark_jump jump;
	uintptr_t wanted; /* a function */
	bool leads_there;
	uintptr_t start, end; /* else of the function that the last one leads to */
};

static void follow(void *given, void *unused)
{
	struct chase *chase = given;
	(void)unused;
	uintptr_t target = target_of(chase->jump);
	for (unsigned jumps = 0; target && jumps < JUMPS_MAX; jumps++) {
		chase->leads_there = target == chase->wanted;
		if (chase->leads_there)
			return;
		chase->start = target;
		target = target_of(mark_jump_of(target));
	}
	chase->end = mark_function_end(chase->start, 0);
}

static struct chase chase_from(const struct binding *last, const struct binding *binding)
{
	struct chase chase = {.jump = last->jump, .wanted = binding->address};
	if (target_of(last->jump))
		patch_guarded(follow, &chase, NULL);
	return chase;
}

/* In the same place as the last one, and its function jumps to this one; unless it comes so again without it. Others that are
   called from one place in turn, as plugins are, are boundaries each. */
static bool is_passed_on(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	if (fp[1] != thread->boundary_return || thread->boundary_passed_on == binding ||
	    !chase_from(thread->boundary_by, binding).leads_there)
		return false;
	thread->boundary_passed_on = binding;
	return true;
}

bool nesting_look(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	const struct binding *last = thread->boundary_by;
	struct look look = {.fp = fp, .last = (const uintptr_t *)thread->boundary_stack};
	if (!thread->in_frame || !last || !last->address || last->marker != binding->marker)
		return false;
	if (fp == look.last)
		return is_passed_on(thread, binding, fp);
	/* Mostly the word where it would return to has become another: nothing more is asked. */
	if (!scope_on_present_stack(thread, (uintptr_t)fp) || !scope_on_present_stack(thread, (uintptr_t)look.last) ||
	    look.last[1] != thread->boundary_return)
		return false;
	if (is_in(binding->address, binding->end, fp[1])) /* however deep */
		return true;
	patch_guarded(walk_back, &look, NULL);
	if (!look.pc || is_in(last->address, last->end, look.pc))
		return look.pc != 0;
	struct chase chase = chase_from(last, binding);
	return is_in(chase.start, chase.end, look.pc);
}
