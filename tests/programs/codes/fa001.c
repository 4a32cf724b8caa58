/* Frame memory by rule, asked for before the first frame. Clean: within frames only. */
#include "common.h"

SITE void *born_here(size_t size)
{
	return malloc(size);
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	if (!clean)
		for (int i = 0; i < 3; i++)
			free(born_here(100));
	frame_mark();
	free(born_here(100));
	frame_mark();
	return failures;
}
