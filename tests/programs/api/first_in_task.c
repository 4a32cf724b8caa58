/* A site that is seen for the first time inside a task, or in a frame inside a task, and allocates outside of both from then
   on: what is counted down there is not what it was in the task. Argument: "frame". */
#include "framealloc.h"

#include <stdlib.h>

#define BLOCKS 400

__attribute__((noinline, noipa)) static void *made(void)
{
	return malloc(700);
}

int main(int argc, char **argv)
{
	static void *block[BLOCKS];
	fa_task *task = fa_task_new("first");
	(void)argv;
	for (int i = 0; i < BLOCKS; i++) {
		if (i == 0)
			fa_task_enter(task);
		if (i == 0 && argc > 1)
			fa_frame_begin();
		block[i] = made();
		if (i == 0 && argc > 1)
			fa_frame_end();
		if (i == 0)
			fa_task_leave(task);
	}
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	fa_task_end(task);
	return 0;
}
