/* `fa-report tasks`: what each kind of task did. */
#include <stdio.h>

#include "tools/fa-report/report.h"

const char *text_task_kind(uint32_t kind)
{
	static const char *const words[] = {"others", "poll", "coroutine", "api"};
	return kind < sizeof words / sizeof words[0] ? words[kind] : "?";
}

const struct symbol_frame *text_task_function(struct report *report, const struct model_task *task)
{
	if (!task->record->node)
		return NULL;
	const struct symbol_place *place = symbols_of_node(report->symbols, task->record->node);
	return &place->frame[place->count - 1];
}

void text_task_name(char *out, size_t bytes, struct report *report, const struct model_task *task)
{
	const struct symbol_frame *function = text_task_function(report, task);
	if (function)
		text_frame_name(out, bytes, function);
	else if (task->record->name[0])
		snprintf(out, bytes, "%s", task->record->name);
	else
		snprintf(out, bytes,
			 task->record->kind == TRACE_TASK_OTHERS ? "(kinds beyond the bound)" : "(unnamed)");
}

static void row(struct report *report, const char *name, const struct model_task *task)
{
	const struct trace_task_type *type = task->record;
	fprintf(report->out, "  %10s %10s %12s %10s %10s %10s %10s %10s  %s\n", text_count(task->started),
		text_count(task->ended), text_count(task->polls), text_bytes((double)task->bytes),
		type ? text_bytes((double)type->bytes_peak) : "",
		task->ended ? text_time((double)task->lifetime_ns / (double)task->ended) : "",
		text_count(task->crossed_await), text_count(task->left_blocks), name);
}

void tasks_table(struct report *report)
{
	const struct model *model = &report->model;
	size_t kinds = 0;
	for (size_t i = 0; i < model->task_count; i++)
		kinds += model->tasks[i].started != 0;
	if (!kinds)
		return;
	fprintf(report->out, "  %10s %10s %12s %10s %10s %10s %10s %10s  %s\n", "tasks", "ended", "polls", "bytes",
		"peak each", "lifetime", "crossed", "left", "kind");
	for (size_t i = 0; i < model->task_count; i++) {
		char name[512];
		if (!model->tasks[i].started)
			continue;
		text_task_name(name, sizeof name, report, &model->tasks[i]);
		row(report, name, &model->tasks[i]);
	}
	if (kinds > 1)
		row(report, "(all)", &model->task_total);
}

void cmd_tasks(struct report *report)
{
	tasks_table(report);
	if (!report->model.task_total.started)
		fprintf(report->out,
			"no tasks: none was begun (fa-run --task FUNC, a preset such as tokio, or the C API)\n");
	text_losses(report);
}
