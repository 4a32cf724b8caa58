/* A block that outlives its frame, made by a member of a C++ template. */
#include "common.h"

namespace game
{
template <typename T> struct Pool {
	SITE void *make(size_t count)
	{
		return malloc(count * sizeof(T));
	}
};
}

int main()
{
	game::Pool<int> pool;
	frame_mark();
	void *block = pool.make(25);
	frame_mark();
	free(block);
	frame_mark();
	return failures;
}
