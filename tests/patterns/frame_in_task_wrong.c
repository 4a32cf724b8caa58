/* Wrong: frame memory is asked for inside a task. The frame may end before the task goes on. FA701 */
#include <stdio.h>

#include "framealloc.h"

static int some_async_op(fa_task *task)
{
	fa_task_enter(task);
	int *data = fa_frame_alloc(sizeof *data); /* FA701 */
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
