/* Inside a patched function, but for nesting_jump_of: general registers only, and the walk through the guard. */
#include "core/nesting.h"

#include <string.h>

#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/marker.h"
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

struct nesting_jump nesting_jump_of(uintptr_t function)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	struct nesting_jump jump = {0, NULL};
	struct image image;
	const uint8_t *code = (const uint8_t *)function;
	int32_t reach;
	if (!image_of(function, &image) || !image_executable(&image, function, sizeof endbr64 + 6))
		return jump;
	if (!memcmp(code, endbr64, sizeof endbr64))
		code += sizeof endbr64;
	if (code[0] == 0xe9) {
		memcpy(&reach, code + 1, sizeof reach);
		jump.target = (uintptr_t)code + 5 + (uintptr_t)(intptr_t)reach;
	} else if (code[0] == 0xff && code[1] == 0x25) {
		memcpy(&reach, code + 2, sizeof reach);
		jump.slot = (const uintptr_t *)((uintptr_t)code + 6 + (uintptr_t)(intptr_t)reach);
	}
	return jump;
}

/* In the same place as the last one, and its function jumps to this one; unless it comes so again without it. Others that are
   called from one place in turn, as plugins are, are boundaries each. */
static bool is_passed_on(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	const struct binding *last = thread->boundary_by;
	if (fp[1] != thread->boundary_return || thread->boundary_passed_on == binding || !last || !last->address)
		return false;
	uintptr_t target = last->jump.slot ? *last->jump.slot : last->jump.target;
	if (!target || target != binding->address)
		return false;
	thread->boundary_passed_on = binding;
	return true;
}

bool nesting_look(struct thread *thread, const struct binding *binding, const uintptr_t *fp)
{
	struct look look = {.fp = fp, .last = (const uintptr_t *)thread->boundary_stack};
	if (!thread->in_frame)
		return false;
	if (fp == look.last)
		return is_passed_on(thread, binding, fp);
	/* Mostly the word where it would return to has become another: no walk is needed. */
	if (!scope_on_present_stack(thread, (uintptr_t)fp) || !scope_on_present_stack(thread, (uintptr_t)look.last) ||
	    look.last[1] != thread->boundary_return)
		return false;
	patch_guarded(walk_back, &look, NULL);
	return look.within;
}
