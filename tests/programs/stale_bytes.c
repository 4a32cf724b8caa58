/* A block of a frame is freed, a larger one comes to lie on its header, and the program writes there one byte, or nothing but ones;
   then the first is freed again. Prints how often. */
#include "common.h"

SITE static unsigned char *make(size_t size)
{
	return malloc(size);
}

int main(void)
{
	int again = 0;
	frame_mark();
	unsigned char *low = make(64), *volatile stale = make(64);
	free(stale);
	free(low);
	unsigned char *over = make(512), *header = stale - 16;
	CHECK(over == low);
	for (int at = 0; at < 8; at++) {
		unsigned char kept = header[at];
		for (int value = 0; value < 256; value++, again++) {
			header[at] = (unsigned char)value;
			free(stale);
			CHECK(header[at] == value);
		}
		header[at] = kept;
	}
	memset(over, 255, 512);
	free(stale);
	again++;
	for (int at = 0; at < 512; at++)
		CHECK(over[at] == 255);
	frame_mark();
	free(over);
	printf("%d\n", again);
	return failures != 0;
}
