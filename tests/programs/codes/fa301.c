/* FA301: a frame allocates 100 KiB with budget=64K. Clean twin: exactly 64 KiB. */
#include "common.h"

int main(int argc, char **argv)
{
	int kib = argc > 1 && !strcmp(argv[1], "clean") ? 64 : 100;
	for (int frame = 0; frame < 3; frame++) {
		frame_mark();
		for (int i = 0; i < kib; i++)
			free(malloc(1024));
	}
	frame_mark();
	return 0;
}
