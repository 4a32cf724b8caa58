/* Call paths without end: recursion whose turns differ, so that every allocation has a path of its own. Arguments: how many,
   how often all of them are gone through, and how many allocations come before the first frame. */
#include "paths.h"

static void *kept[1024];

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 200000, rounds = argc > 2 ? atol(argv[2]) : 1;
	long before = argc > 3 ? atol(argv[3]) : 0;
	for (long i = 0; i < count * rounds; i++) {
		if (i >= before && i % 50 == 0)
			frame_mark();
		free(kept[i & 1023]);
		kept[i & 1023] = left((unsigned)(i % count) * 2654435761u, 20);
	}
	frame_mark();
	for (int i = 0; i < 1024; i++)
		free(kept[i]);
	return 0;
}
