/* `fa-report regions`: what each named region of the policy allocated. */
#include "tools/fa-report/report.h"

static uint64_t escapes(const struct model_verdicts *v)
{
	return v->outlived_frame + v->died_elsewhere;
}

static void row(struct report *report, const char *name, const struct model_region *region)
{
	const struct trace_tag *record = region->record;
	fprintf(report->out, "  %-20s %12s %10s %10s %10s %10s", name, text_count(region->allocs),
		text_bytes((double)region->bytes), text_bytes((double)region->live_bytes),
		text_percent(escapes(&region->verdicts), region->allocs), text_bytes((double)record->frame_bytes_max));
	if (record->budget_bytes)
		fprintf(report->out, "  budget %s, %s frames above it", text_bytes((double)record->budget_bytes),
			text_count(record->frames_over));
	if (region->foreign)
		fprintf(report->out, "  %s allocations by other regions' modules", text_count(region->foreign));
	fputc('\n', report->out);
}

void regions_table(struct report *report)
{
	const struct model *model = &report->model;
	if (!model->region_count)
		return;
	fprintf(report->out, "  %-20s %12s %10s %10s %10s %10s\n", "region", "allocations", "bytes", "live", "escapes",
		"max frame");
	for (size_t i = 1; i < model->region_count; i++)
		row(report, model->regions[i].record->name, &model->regions[i]);
	row(report, "(none)", &model->regions[0]);
}

void cmd_regions(struct report *report)
{
	regions_table(report);
	if (!report->model.region_count)
		fprintf(report->out, "no regions: a policy names them ([region NAME], scope = FUNC)\n");
	text_losses(report);
}
