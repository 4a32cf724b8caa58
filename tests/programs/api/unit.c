/* One unit of a program of several: what one of them does, the others see. */
#include <stdio.h>

#include "framealloc.h"

void *other_unit(void); /* of unit_other.cpp */

int main(void)
{
	fa_stats_t stats;
	fa_frame_begin();
	void *block = other_unit(); /* frame memory of the frame that was begun here */
	memset(block, 1, 100);
	FA_POOL_GUARD(guard);
	fa_stats(&stats);
	printf("%d %d %d\n", (int)stats.frame.live_blocks, (int)stats.frames, (int)stats.misuse);
	fa_frame_end();
	fa_stats(&stats);
	printf("%d\n", (int)stats.frame.live_blocks);
	return 0;
}
