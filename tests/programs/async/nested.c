/* nested N: a task polls another one twice in each of its polls. The inner one frees a block of the outer one. */
#include "common.h"

SITE void *handed_in(void)
{
	return malloc(50);
}
SITE void *inner_scratch(void)
{
	return malloc(20);
}
SITE void *outer_scratch(void)
{
	return malloc(25);
}

SITE void poll_inner(void *task, void *given)
{
	(void)task;
	free(inner_scratch());
	free(given);
}

SITE void poll_outer(void *task, void *inner)
{
	(void)task;
	poll_inner(inner, handed_in());
	poll_inner(inner, NULL);
	free(outer_scratch());
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 10;
	void *outer = malloc(64), *inner = malloc(64);
	for (int i = 0; i < count; i++)
		poll_outer(outer, inner);
	free(inner);
	free(outer);
	return failures;
}
