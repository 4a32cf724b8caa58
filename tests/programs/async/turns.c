/* A libuv loop with timers, immediates and thread-pool work that counts its own turns: prepare handles run once in each,
   before it waits. */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static long turns, timers, works;

static void count_turn(uv_prepare_t *prepare)
{
	(void)prepare;
	turns++;
}

static void work(uv_work_t *request)
{
	request->data = malloc(100);
}

static void after_work(uv_work_t *request, int status)
{
	(void)status;
	works++;
	free(request->data);
	free(request);
}

static void fire(uv_timer_t *timer)
{
	free(malloc(60));
	if (timers % 10 == 0) {
		uv_work_t *request = malloc(sizeof *request);
		uv_queue_work(timer->loop, request, work, after_work);
	}
	if (++timers == 300)
		uv_timer_stop(timer);
}

int main(void)
{
	uv_loop_t *loop = uv_default_loop();
	uv_prepare_t prepare;
	uv_timer_t timer;
	uv_prepare_init(loop, &prepare);
	uv_prepare_start(&prepare, count_turn);
	uv_unref((uv_handle_t *)&prepare);
	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, fire, 1, 1);
	uv_run(loop, UV_RUN_DEFAULT);
	printf("%ld turns, %ld timers, %ld works\n", turns, timers, works);
	return 0;
}
