/* `fa-report violations`: each key in the manner of a compiler, worst first. */
#include "core/registry/codes.h"
#include "tools/fa-report/report.h"

static const char *level_color(enum trace_level level)
{
	return level == TRACE_LEVEL_ERROR ? "\033[1;31m" : level == TRACE_LEVEL_WARN ? "\033[1;33m" : "\033[1;34m";
}

static void print(struct report *report, const struct model_violation *v)
{
	const struct code_info *info = codes_find(v->code);
	char message[1024], name[512];
	text_violation_message(message, sizeof message, report, v);
	fprintf(report->out, "%s%s[FA%03u]%s: %s\n", text_color(report, level_color(v->level)), text_level(v->level),
		v->code, text_color(report, "\033[0m"), message);
	const struct model_site *site =
		v->site && v->site < report->model.site_count ? &report->model.sites[v->site] : NULL;
	const struct trace_occurrence *first = v->record && v->record->occurrences ? &v->record->occurrence[0] : NULL;
	uint32_t path = model_path(&report->model, v);
	const struct symbol_frame *head = path ? text_headline(report, path).frame : NULL;
	if (head) {
		if (head->file)
			fprintf(report->out, "  --> %s:%d\n", head->file, head->line);
		else {
			text_frame_name(name, sizeof name, head);
			fprintf(report->out, "  --> %s\n", name);
		}
		text_source_line(report, head);
	}
	if (site && site->record->node)
		text_path(report, "born", site->record->node, 6);
	if (first && first->scope_end_node)
		text_path(report,
			  v->code == 603   ? "await"
			  : v->code == 703 ? "scope end"
					   : "frame end",
			  first->scope_end_node, 2);
	if (first && first->died_node)
		text_path(report, v->code > 900 ? "freed again" : "died", first->died_node, 4);
	fprintf(report->out, "   = %s", text_count(v->count));
	if (v->bytes)
		fprintf(report->out, ", %s", text_bytes((double)v->bytes));
	if (v->last_frame)
		fprintf(report->out, ", frames %s to %s", text_count(v->first_frame), text_count(v->last_frame));
	if (v->worst_lifetime_frames)
		fprintf(report->out, ", at worst %s frames late", text_count(v->worst_lifetime_frames));
	fprintf(report->out, "\n   = help: %s\n\n", info ? info->help : "");
}

void cmd_violations(struct report *report)
{
	const struct model *model = &report->model;
	size_t top = report->options.top ? report->options.top : 20;
	for (size_t i = 0; i < model->violation_count && i < top; i++)
		print(report, &model->violations[i]);
	if (model->violation_count > top)
		fprintf(report->out, "%zu more; --top %zu shows all\n", model->violation_count - top,
			model->violation_count);
	if (!model->violation_count && model->violations_lost)
		fprintf(report->out, "no violations recorded; %s could not be\n", text_count(model->violations_lost));
	else if (!model->violation_count)
		fprintf(report->out, "no violations\n");
	suppress_tell(report);
	text_losses(report);
}
