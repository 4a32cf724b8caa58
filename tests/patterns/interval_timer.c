/* An interval timer that collects metrics: each tick makes a report in pool memory, under a guard that frees all of it
   when the tick is over. The timer is libuv's. */
#include <stdio.h>
#include <uv.h>

#include "framealloc.h"

#define TICKS 20

struct metrics {
	int ticks;
	size_t sent;
};

static char *report_of(const fa_vec *samples)
{
	char *report = fa_pool_alloc(16 * samples->count + 1), *end = report;
	*end = 0;
	for (size_t i = 0; i < samples->count; i++)
		end += sprintf(end, "%d;", *(int *)fa_vec_at(samples, i));
	return report;
}

static void tick(uv_timer_t *timer)
{
	FA_POOL_GUARD(guard);
	struct metrics *metrics = timer->data;
	fa_vec samples = fa_pool_vec(sizeof(int));
	for (int i = 0; i < 10 + metrics->ticks; i++) {
		int sample = i * metrics->ticks;
		fa_vec_push(&samples, &sample);
	}
	metrics->sent += strlen(report_of(&samples));
	if (++metrics->ticks == TICKS)
		uv_timer_stop(timer);
} /* samples and report are freed */

int main(void)
{
	struct metrics metrics = {0};
	uv_loop_t *loop = uv_default_loop();
	uv_timer_t timer;
	uv_timer_init(loop, &timer);
	timer.data = &metrics;
	uv_timer_start(&timer, tick, 1, 2);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("ticks %d, sent %d, live %d\n", metrics.ticks, (int)metrics.sent, (int)stats.other.live_blocks);
	return 0;
}
