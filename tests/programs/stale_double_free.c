/* A block is freed twice in a frame, the second time when another block lies on half of its header: on the word that tells of
   its birth, not on the one that tells whether it lives. */
#include "common.h"

SITE static char *make(size_t size)
{
	return malloc(size);
}

int main(void)
{
	for (int i = 0; i < 3; i++) {
		frame_mark();
		char *low = make(16), *volatile twice = make(16);
		free(twice);
		free(low);
		char *over = make(24);
		memset(over, 0, 24);
		CHECK(over == low);
		if (i == 2)
			free(twice);
		char *after = make(64);
		memset(after, 'a', 64);
		for (int at = 0; at < 24; at++)
			CHECK(over[at] == 0);
		free(after);
		free(over);
	}
	return failures != 0;
}
