/* Right: what a task allocates is the task's own */
#include <stdio.h>

#include "framealloc.h"

static int some_async_op(fa_task *task)
{
	fa_task_enter(task);
	int *data = fa_task_alloc(task, sizeof *data);
	*data = 42;
	int value = *data;
	fa_task_leave(task);
	return value;
}

int main(void)
{
	fa_frame_begin();
	fa_task *task = fa_task_new("operation");
	int value = some_async_op(task);
	fa_task_end(task);
	fa_frame_end();
	printf("%d\n", value);
	return 0;
}
