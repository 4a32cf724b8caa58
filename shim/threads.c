/* Thread creation, naming and process end: what the shim must see to know roles and to close the recording. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/mark/mark.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/slot.h"
#include "core/thread.h"
#include "core/trace/writer.h"
#include "shim/hooks.h"

static struct {
	int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	int (*set_name)(pthread_t, const char *);
	int (*set_cancel_type)(int, int *);
} real;

void threads_find(void)
{
	real.set_name = (__typeof__(real.set_name))finder_next("pthread_setname_np", (uintptr_t)&runtime_phase);
	real.set_cancel_type =
		(__typeof__(real.set_cancel_type))finder_next("pthread_setcanceltype", (uintptr_t)&runtime_phase);
	real.create = (__typeof__(real.create))finder_next("pthread_create", (uintptr_t)&runtime_phase);
}

static void find_early(void) /* another library's constructor calls */
{
	if (unlikely(!real.create))
		threads_find();
}

struct thread_start {
	void *(*routine)(void *argument);
	void *argument;
	enum trace_role creator;
};

static bool recording(void)
{
	return runtime_current() == RUNTIME_RECORDING;
}

static void begin(void *given, void *out)
{
	struct thread_start *start = out;
	*start = *(struct thread_start *)given;
	/* Before the thread's first allocation or free: that would attach it without what is known of it here. */
	if (recording() && thread_self->gate == 0)
		thread_attach((uintptr_t)start->routine, start->creator);
	free(given);
}

static void *run_thread(void *given)
{
	struct thread_start start;
	thread_internal_shielded(begin, given, &start);
	return start.routine(start.argument);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument)
{
	find_early();
	if (!real.create)
		return EAGAIN;
	if (!recording())
		return real.create(thread, attributes, routine, argument);
	alloc_hand_over(argument);
	thread_internal_begin();
	struct thread_start *start = malloc(sizeof *start);
	thread_internal_end();
	if (!start)
		return EAGAIN;
	*start = (struct thread_start){routine, argument,
				       thread_self->gate & THREAD_READY ? thread_self->role : TRACE_ROLE_NONE};
	int error = real.create(thread, attributes, run_thread, start);
	if (error) {
		thread_internal_begin();
		free(start);
		thread_internal_end();
	}
	return error;
}

/* The state of the thread with this handle; NULL when it is not attached. */
static struct thread *find(pthread_t handle)
{
	if (pthread_equal(handle, pthread_self()))
		return thread_self->gate & THREAD_READY ? thread_self : NULL;
	for (uint32_t i = 0; i < slot_count(); i++) {
		struct thread *thread = slot_at(i);
		if (thread && thread->gate & THREAD_READY && thread->handle == (uintptr_t)handle)
			return thread;
	}
	return NULL;
}

EXPORT int pthread_setname_np(pthread_t handle, const char *name)
{
	find_early();
	int error = real.set_name ? real.set_name(handle, name) : ENOSYS;
	if (error || !recording())
		return error;
	struct thread *thread = find(handle);
	if (thread)
		role_named(thread, name);
	return 0;
}

/* Itself safe to cancel anywhere. */
EXPORT int pthread_setcanceltype(int type, int *old)
{
	find_early();
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS)
		atomic_store(&patch_cancels_anywhere, true);
	return real.set_cancel_type ? real.set_cancel_type(type, old) : EINVAL;
}

/* exit() is seen by a handler (shim/start.c); these two run none. */
EXPORT void _exit(int status)
{
	runtime_end(status & 0xff, true);
	for (;;)
		syscall(SYS_exit_group, status);
}

EXPORT void _Exit(int status)
{
	_exit(status);
}
