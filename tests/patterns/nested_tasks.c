/* Nested tasks: one task for a list of requests, a child for each of them. What a child works with ends with it; its
   result is handed out and outlives it. Whatever is left of a child ends with its parent. */
#include <stdio.h>

#include "framealloc.h"

struct request {
	int number;
	fa_task *task;
	char *result; /* the caller's, once it is there */
};

/* One poll; the work takes as many as the request's number. True: done. */
static bool process(struct request *request, int turn)
{
	fa_task_enter(request->task);
	char *scratch = fa_task_alloc(request->task, 64);
	snprintf(scratch, 64, "request %d, turn %d", request->number, turn);
	bool done = turn == request->number;
	if (done) {
		request->result = fa_task_alloc(request->task, 64);
		snprintf(request->result, 64, "%s: done", scratch);
		fa_task_release(request->task, request->result);
	}
	fa_task_leave(request->task);
	return done;
}

int main(void)
{
	fa_task *all = fa_task_new("all requests");
	struct request requests[8];
	int open = 8, abandoned = 0;
	for (int i = 0; i < 8; i++)
		requests[i] = (struct request){.number = i, .task = fa_task_new_child(all, "request")};
	for (int turn = 0; open > 2; turn++) /* the last two are never awaited: they end with their parent */
		for (int i = 0; i < 8; i++)
			if (requests[i].task && !requests[i].result && process(&requests[i], turn)) {
				fa_task_end(requests[i].task);
				requests[i].task = NULL;
				open--;
			}
	fa_task_end(all);
	for (int i = 0; i < 8; i++) {
		if (requests[i].result)
			puts(requests[i].result);
		else
			abandoned++;
		fa_free(requests[i].result);
	}
	printf("abandoned %d\n", abandoned);
	return 0;
}
