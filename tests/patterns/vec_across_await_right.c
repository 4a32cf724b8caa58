/* Right: what is held across an await is pool memory, here a guard's */
#include <stdio.h>
#include <time.h>

#include "framealloc.h"

static int async_op(void)
{
	struct timespec pause = {0, 1000000};
	return nanosleep(&pause, NULL);
}

int main(void)
{
	int sum = 0;
	fa_frame_begin();
	{
		FA_POOL_GUARD(guard);
		fa_vec data = fa_pool_vec(sizeof(int));
		for (int i = 0; i < 5; i++)
			fa_vec_push(&data, &i);
		FA_AWAIT(async_op());
		for (size_t i = 0; i < data.count; i++)
			sum += *(int *)fa_vec_at(&data, i);
	}
	fa_frame_end();
	printf("%d\n", sum);
	return 0;
}
