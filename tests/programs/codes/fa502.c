/* FA502: 60 of 100 blocks of a site outlive their frame. Clean twin: 50, the limit. */
#include "common.h"

SITE void *born_here(void)
{
	return malloc(100);
}

int main(int argc, char **argv)
{
	int survivors = argc > 1 && !strcmp(argv[1], "clean") ? 50 : 60;
	void *block[100];
	frame_mark();
	for (int i = 0; i < 100; i++)
		block[i] = born_here();
	for (int i = survivors; i < 100; i++)
		free(block[i]);
	frame_mark();
	for (int i = 0; i < survivors; i++)
		free(block[i]);
	frame_mark();
	return 0;
}
