/* malloc and free by call paths that are new, which takes locks (realtime.h). */
#include "paths.h"
#include "realtime.h"

static void by_a_new_path(unsigned turn)
{
	free(left(turn * 2654435761u, 20));
}

int main(void)
{
	return realtime_main(by_a_new_path);
}
