/* The same function before and after its migration from sync to async. Before: frame memory, which ends with the frame;
   the result is promoted. After: the work pauses in the middle, so its memory is the task's; the result is handed on. */
#include <stdio.h>

#include "framealloc.h"

static char *process_sync(const char *data)
{
	fa_frame_begin();
	fa_vec result = fa_frame_vec(1);
	for (const char *c = data; *c; c++) {
		char upper = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
		fa_vec_push(&result, &upper);
	}
	fa_vec_push(&result, "");
	char *kept = fa_promote(fa_vec_take(&result), FA_HEAP);
	fa_frame_end();
	return kept;
}

struct process {
	fa_task *task;
	const char *at;
	fa_vec result; /* the task's: it may live on through an await */
};

static void process_begin(struct process *process, const char *data)
{
	process->task = fa_task_new("process");
	process->at = data;
	process->result = fa_task_vec(process->task, 1);
}

/* Eight characters a poll. NULL: call again. */
static char *process_poll(struct process *process)
{
	char *done = NULL;
	fa_task_enter(process->task);
	for (int i = 0; i < 8 && *process->at; i++, process->at++) {
		char upper = *process->at >= 'a' && *process->at <= 'z' ? (char)(*process->at - 32) : *process->at;
		fa_vec_push(&process->result, &upper);
	}
	if (!*process->at) {
		fa_vec_push(&process->result, "");
		done = fa_vec_take(&process->result); /* handed on */
	}
	fa_task_leave(process->task);
	if (done)
		fa_task_end(process->task);
	return done;
}

int main(void)
{
	static const char text[] = "the same result, before and after";
	char *before = process_sync(text), *after = NULL;
	struct process process;
	process_begin(&process, text);
	while (!after)
		after = process_poll(&process);
	printf("%s\n%s\n", before, after);
	fa_free(before);
	fa_free(after);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("live %d\n", (int)(stats.frame.live_blocks + stats.other.live_blocks));
	return 0;
}
