/* The library's constructor: after those of the libraries, before the program's own. Not -z initfirst: a dlopen before
   libc's own constructor would have ld.so run that one without arguments and environment. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "core/mark/mark.h"
#include "core/runtime.h"
#include "core/thread.h"
#include "core/trace/writer.h"
#include "shim/hooks.h"
#include "shim/own.h"

/* Registered before anything else, so it runs after every other handler and every destructor. */
static void at_exit(int status, void *argument)
{
	(void)argument;
	runtime_end(status & 0xff, true);
}

/* quick_exit tells its handlers no status: the launcher knows it. */
static void at_quick_end(void)
{
	runtime_end(0, false);
}

__attribute__((constructor(101))) static void start(void)
{
	own_list();
	calls_find();
	jumps_find();
	rights_find();
	threads_find();
	bool served_by_us = finder_next("malloc", 0) == (uintptr_t)own_malloc;
	runtime_finish_start(served_by_us);
	if (atomic_load(&runtime_phase) != RUNTIME_RECORDING)
		return;
	thread_internal_begin();
	if (!served_by_us)
		trace_loss(TRACE_LOSS_OWN_MALLOC, 1);
	on_exit(at_exit, NULL);
	(void)at_quick_exit(at_quick_end); /* fails only without memory: the end is then unknown */
	thread_internal_end();
}
