/* What a program gives up for good: root, the file system it saw, system calls. Its recording's file may be out of reach after
   that, and is made ready before. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/mark/mark.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/scope_stack.h"
#include "core/thread.h"
#include "core/trace/writer.h"
#include "shim/hooks.h"

int capset(void *header, const void *data); /* libcap's declaration, which we do without */

/* What gives up rights: (result, name, parameters, arguments, when it does, what it answers if there is no such function). */
#define RIGHTS                                                                                                         \
	RIGHT(int, setuid, (uid_t a), (a), is_root(), -1)                                                              \
	RIGHT(int, seteuid, (uid_t a), (a), is_root(), -1)                                                             \
	RIGHT(int, setreuid, (uid_t a, uid_t b), (a, b), is_root(), -1)                                                \
	RIGHT(int, setresuid, (uid_t a, uid_t b, uid_t c), (a, b, c), is_root(), -1)                                   \
	RIGHT(int, setfsuid, (uid_t a), (a), is_root(), 0)                                                             \
	RIGHT(int, capset, (void *a, const void *b), (a, b), is_root(), -1)                                            \
	RIGHT(int, chroot, (const char *a), (a), true, -1)                                                             \
	RIGHT(int, unshare, (int a), (a), true, -1)                                                                    \
	RIGHT(int, setns, (int a, int b), (a, b), true, -1)

static struct {
#define RIGHT(result, name, parameters, arguments, when, failure) result(*name) parameters;
	RIGHTS
#undef RIGHT
} real;

void rights_find(void)
{
#define RIGHT(result, name, parameters, arguments, when, failure)                                                      \
	real.name = (__typeof__(real.name))finder_next(#name, (uintptr_t)&runtime_phase);
	RIGHTS
#undef RIGHT
}

/* What is found out at first need is found out now: a filter may kill who asks later. */
static void prepare(bool calls)
{
	int saved = errno;
	if (runtime_current() == RUNTIME_RECORDING) {
		trace_keep_room();
		if (thread_self->gate == THREAD_READY)
			(void)scope_stack_make_room(thread_self);
	}
	if (calls)
		base_spare_calls();
	errno = saved;
}

static bool is_root(void)
{
	return geteuid() == 0;
}

#define RIGHT(result, name, parameters, arguments, when, failure)                                                      \
	EXPORT result name parameters                                                                                  \
	{                                                                                                              \
		if (unlikely(!real.name)) /* another library's constructor calls */                                    \
			rights_find();                                                                                 \
		if (when)                                                                                              \
			prepare(false);                                                                                \
		if (real.name)                                                                                         \
			return real.name arguments;                                                                    \
		errno = ENOSYS;                                                                                        \
		return failure;                                                                                        \
	}
RIGHTS
#undef RIGHT

EXPORT int prctl(int option, ...)
{
	va_list list;
	va_start(list, option);
	unsigned long a = va_arg(list, unsigned long), b = va_arg(list, unsigned long), c = va_arg(list, unsigned long),
		      d = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_SECCOMP ||
	    option == PR_SET_NO_NEW_PRIVS) /* a filter of system calls mostly follows the latter */
		prepare(true);
	long result = syscall(SYS_prctl, option, a, b, c, d);
	if (option == PR_SET_NAME && result == 0 && runtime_current() == RUNTIME_RECORDING &&
	    thread_self->gate & THREAD_READY)
		role_named(thread_self, NULL); /* what the kernel took: the text may end with its page */
	return (int)result;
}
