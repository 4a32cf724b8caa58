/* Waiting calls of libc, seen without a patch: for markers that name one whose entry could not be patched (no
   disassembler, code that must not be written), and for zero configuration. Otherwise each is a jump to the real one. */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "core/mark/mark.h"
#include "core/marker.h"
#include "core/runtime.h"
#include "shim/hooks.h"

static uintptr_t real[CALL_COUNT];

static cold_path uintptr_t find_real(enum call call)
{
	real[call] = finder_next(call_name(call), (uintptr_t)&runtime_phase);
	return real[call];
}

void calls_find(void)
{
	for (int call = 0; call < CALL_COUNT; call++)
		find_real((enum call)call);
}

/* `fp` is the hook's frame: the call path of the boundary begins at its caller. */
#define CALL(result, name, parameters, arguments, waits)                                                               \
	EXPORT result name parameters                                                                                  \
	{                                                                                                              \
		uintptr_t address = real[CALL_##name];                                                                 \
		result(*function) parameters =                                                                         \
			(__typeof__(function))(likely(address) ? address : find_real(CALL_##name));                    \
		if (likely(!marker_on_call[CALL_##name]))                                                              \
			return function arguments;                                                                     \
		const uintptr_t *fp = __builtin_frame_address(0);                                                      \
		bool leaves = marker_call_enter(CALL_##name, waits, fp);                                               \
		result value = function arguments;                                                                     \
		if (leaves)                                                                                            \
			marker_call_leave(fp);                                                                         \
		return value;                                                                                          \
	}
#include "core/calls.def"
#undef CALL
