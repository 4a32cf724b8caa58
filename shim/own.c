/* Every function that is taken over, with a resolver that ld.so can ask for it. Only addresses are taken here: one plain
   declaration serves for all. */
#include "shim/own.h"

#include "core/mark/got.h"

#define OWN(function)                                                                                                  \
	extern char own_##function[] __asm__(#function);                                                               \
	static void *resolve_##function(void)                                                                          \
	{                                                                                                              \
		return own_##function;                                                                                 \
	}
#define HOOK(name) OWN(name)
#define CALL(result, name, parameters, arguments, waits) OWN(name)
#define JUMP(name) OWN(name)
#include "core/calls.def"
#include "shim/hooks.def"
#include "shim/jumps.def"
#undef HOOK
#undef CALL
#undef JUMP

static const struct got_own own[] = {
#define HOOK(name) {#name, resolve_##name},
#define CALL(result, name, parameters, arguments, waits) {#name, resolve_##name},
#define JUMP(name) {#name, resolve_##name},
#include "core/calls.def"
#include "shim/hooks.def"
#include "shim/jumps.def"
#undef HOOK
#undef CALL
#undef JUMP
};

void own_list(void)
{
	got_own(own, sizeof own / sizeof own[0]);
}
