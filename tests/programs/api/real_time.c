/* The API's calls, whose plain form takes a lock (realtime.h). */
#include "../realtime.h"
#include "framealloc.h"

static void in_a_frame(unsigned turn)
{
	(void)turn;
	fa_frame_begin();
	fa_free(fa_frame_alloc(64));
	fa_frame_end();
}

int main(void)
{
	return realtime_main(in_a_frame);
}
