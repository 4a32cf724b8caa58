/* The program's own code allocates while another module's region is open. Clean: under its own. */
#include "common.h"

SITE void *born_here(size_t size)
{
	return malloc(size);
}
SITE void own_work(void)
{
	free(born_here(100));
}
SITE void other_work(void)
{
	free(born_here(100));
}

int main(int argc, char **argv)
{
	bool clean = argc > 1 && !strcmp(argv[1], "clean");
	frame_mark();
	for (int i = 0; i < 5; i++)
		clean ? own_work() : other_work();
	frame_mark();
	return failures;
}
