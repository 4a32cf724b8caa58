/* Waiting calls of libc as boundaries without a patch: used where a marker names one and its entry could not be
   patched (no disassembler, code that must not be written). Otherwise each is a jump to the real one. */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "core/bind.h"
#include "core/mark/mark.h"
#include "core/runtime.h"
#include "shim/hooks.h"

enum {
#define CALL(result, name, parameters, arguments) CALL_##name,
#include "shim/calls.def"
#undef CALL
	CALL_COUNT
};

static const char *const names[CALL_COUNT] = {
#define CALL(result, name, parameters, arguments) #name,
#include "shim/calls.def"
#undef CALL
};
static uintptr_t real[CALL_COUNT];

static uintptr_t find_real(int call)
{
	if (!real[call])
		real[call] = finder_next(names[call], (uintptr_t)&runtime_phase);
	return real[call];
}

/* `fp` is the hook's frame: the call path of the boundary begins at its caller. */
#define CALL(result, name, parameters, arguments)                                                                      \
	EXPORT result name parameters                                                                                  \
	{                                                                                                              \
		result(*function) parameters = (__typeof__(function))find_real(CALL_##name);                           \
		struct binding *binding = bind_call_enter(names[CALL_##name], __builtin_frame_address(0));             \
		result value = function arguments;                                                                     \
		if (unlikely(binding != NULL))                                                                         \
			bind_call_leave(binding);                                                                      \
		return value;                                                                                          \
	}
#include "shim/calls.def"
#undef CALL
