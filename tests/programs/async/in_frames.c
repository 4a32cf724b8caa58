/* in_frames N: an event loop runs inside each frame. Memory of the frame lives through it; a block that a frame made is
   freed by the task in the next frame. */
#include "common.h"

static void *handed;

SITE void *frame_scratch(void)
{
	return malloc(100);
}
SITE void *task_scratch(void)
{
	return malloc(40);
}
SITE void *captured(void)
{
	return malloc(70);
}

SITE void poll_task(void *task)
{
	(void)task;
	free(task_scratch());
	free(handed);
	handed = NULL;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 10;
	void *task = malloc(64);
	for (int i = 0; i < count; i++) {
		frame_mark();
		void *scratch = frame_scratch();
		poll_task(task);
		free(scratch);
		handed = i + 1 < count ? captured() : NULL;
	}
	free(task);
	return failures;
}
