/* The other unit, in C++. */
#include "framealloc.h"

extern "C" void *other_unit();
void *other_unit()
{
	return fa_frame_alloc(100);
}
