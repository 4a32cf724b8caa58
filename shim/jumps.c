/* longjmp and its like: scopes whose frames a jump leaves end with it. <setjmp.h> is not included, since it has its own
   idea of these functions' types. */
#define _GNU_SOURCE
#include "core/mark/mark.h"
#include "core/marker.h"
#include "core/runtime.h"
#include "shim/hooks.h"

/* What every jmp_buf begins with on x86-64: rbx, rbp, r12 to r15, rsp, rip. */
struct jump_buffer {
	uintptr_t registers[8];
};
enum { JUMP_SP = 6 };

/* The stack pointer that a jump goes to. glibc keeps it mangled with a secret of the thread. */
static uintptr_t jump_stack(const struct jump_buffer *buffer)
{
	uintptr_t value = buffer->registers[JUMP_SP], secret;
	__asm__("mov %%fs:0x30, %0" : "=r"(secret));
	return (value >> 17 | value << 47) ^ secret;
}

static struct {
#define JUMP(name) void (*name##_)(struct jump_buffer *, int);
#include "shim/jumps.def"
#undef JUMP
} real;

void jumps_find(void)
{
#define JUMP(name) real.name##_ = (__typeof__(real.name##_))finder_next(#name, (uintptr_t)&runtime_phase);
#include "shim/jumps.def"
#undef JUMP
}

#define JUMP(name)                                                                                                     \
	EXPORT _Noreturn void name(struct jump_buffer *buffer, int value);                                             \
	EXPORT _Noreturn void name(struct jump_buffer *buffer, int value)                                              \
	{                                                                                                              \
		if (unlikely(!real.name##_)) /* another library's constructor */                                       \
			jumps_find();                                                                                  \
		marker_jump(jump_stack(buffer));                                                                       \
		real.name##_(buffer, value);                                                                           \
		__builtin_unreachable();                                                                               \
	}
#include "shim/jumps.def"
#undef JUMP
