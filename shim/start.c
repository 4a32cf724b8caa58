/* The library's constructor. It is marked -z initfirst, so that markers are in place before any other constructor runs
   and the process is still single-threaded. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "core/runtime.h"
#include "core/thread.h"

/* Registered before anything else, so it runs after every other handler and every destructor. */
static void at_exit(int status, void *argument)
{
	(void)argument;
	runtime_end(status & 0xff, true);
}

__attribute__((constructor(101))) static void start(void)
{
	runtime_finish_start();
	if (atomic_load(&runtime_phase) != RUNTIME_RECORDING)
		return;
	thread_internal_begin();
	on_exit(at_exit, NULL);
	thread_internal_end();
}
