/* Carries the words of a Tokio of another version, and a table of tasks as the 1.x before 1.21 had it: fewer functions,
   no offsets. It must be told, not bound. */
#include <stdio.h>

static const char place[] = "/usr/share/cargo/registry/tokio-" VERSION "/src/runtime/task/core.rs";

#define FUNCTION(name)                                                                                                 \
	static void name(void *header)                                                                                 \
	{                                                                                                              \
		printf(#name " %p\n", header);                                                                         \
	}
FUNCTION(poll)
FUNCTION(dealloc)
FUNCTION(try_read_output)
FUNCTION(drop_join_handle_slow)
FUNCTION(shutdown)

typedef void (*task_function)(void *header);
static const task_function table[] = {poll, dealloc, try_read_output, drop_join_handle_slow, shutdown};

int main(void)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		table[i](NULL);
	puts(place);
	return 0;
}
