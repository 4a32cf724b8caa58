/* Inside a patched function: general registers only, and the walk through the guard. */
#include "core/nesting.h"

#include "core/mark/mark.h"
#include "core/path/path.h"
#include "core/scope_stack.h"

struct look {
	const uintptr_t *fp, *last;
	bool within;
};

static void walk_back(void *given, void *unused)
{
	struct look *look = given;
	(void)unused;
	look->within = path_is_within(look->fp, look->last);
}

/* In the same place as the last one: by a jump from there, unless it comes so again without it. */
static bool is_passed_on(struct thread *thread, const void *marker, const uintptr_t *fp)
{
	if (fp[1] != thread->boundary_return || thread->boundary_passed_on == marker)
		return false;
	thread->boundary_passed_on = marker;
	return true;
}

bool nesting_look(struct thread *thread, const void *marker, const uintptr_t *fp)
{
	struct look look = {.fp = fp, .last = (const uintptr_t *)thread->boundary_stack};
	if (!thread->in_frame)
		return false;
	if (fp == look.last)
		return is_passed_on(thread, marker, fp);
	/* Mostly the word where it would return to has become another: no walk is needed. */
	if (!scope_on_present_stack(thread, (uintptr_t)fp) || !scope_on_present_stack(thread, (uintptr_t)look.last) ||
	    look.last[1] != thread->boundary_return)
		return false;
	patch_guarded(walk_back, &look, NULL);
	return look.within;
}
