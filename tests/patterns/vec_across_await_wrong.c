/* Wrong: a frame's vector is held across an await, where the frame may end under it. FA603 */
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
		fa_vec data = fa_frame_vec(sizeof(int));
		for (int i = 0; i < 5; i++)
			fa_vec_push(&data, &i); /* FA603: born here */
		FA_AWAIT(async_op());
		for (size_t i = 0; i < data.count; i++)
			sum += *(int *)fa_vec_at(&data, i);
		fa_vec_free(&data); /* FA603: died here */
	}
	fa_frame_end();
	printf("%d\n", sum);
	return 0;
}
