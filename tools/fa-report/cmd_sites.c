/* `fa-report sites` and `fa-report leaks`: tables of call sites, by what they allocate and by what they leave. */
#include <stdlib.h>

#include "tools/fa-report/report.h"

typedef int64_t (*site_key)(const struct model_site *site);

static int64_t key_allocs(const struct model_site *site)
{
	return (int64_t)site->allocs;
}

static int64_t key_live(const struct model_site *site)
{
	return site->live_bytes;
}

static int64_t key_at_peak(const struct model_site *site)
{
	return (int64_t)site->record->live_bytes_at_peak;
}

static site_key sort_key;

static int compare(const void *left, const void *right)
{
	const struct model_site *a = *(const struct model_site *const *)left,
				*b = *(const struct model_site *const *)right;
	int64_t x = sort_key(a), y = sort_key(b);
	return x != y ? (x < y ? 1 : -1) : a->index < b->index ? -1 : 1;
}

/* The sites whose key is positive, highest first. */
static const struct model_site **sorted(const struct model *model, site_key key, size_t *count)
{
	const struct model_site **list = calloc(model->site_count + 1, sizeof *list);
	*count = 0;
	for (size_t i = 0; list && i < model->site_count; i++)
		if (key(&model->sites[i]) > 0)
			list[(*count)++] = &model->sites[i];
	sort_key = key;
	if (*count)
		qsort(list, *count, sizeof *list, compare);
	return list;
}

void cmd_sites(struct report *report)
{
	size_t count, top = report->options.top ? report->options.top : 25;
	const struct model_site **list = sorted(&report->model, key_allocs, &count);
	fprintf(report->out, "%14s %10s %10s  %6s %6s %6s  %s\n", "allocations", "bytes", "live", "frame", "pool",
		"heap", "born in");
	for (size_t i = 0; i < count && i < top; i++) {
		const struct model_site *s = list[i];
		char name[400];
		text_site_name(name, sizeof name, report, s);
		uint64_t pool = s->births[TRACE_BIRTH_POOL_IN] + s->births[TRACE_BIRTH_POOL_OUT];
		uint64_t heap = s->births[TRACE_BIRTH_HEAP_IN] + s->births[TRACE_BIRTH_HEAP_OUT];
		fprintf(report->out, "%14s %10s %10s  %5.0f%% %5.0f%% %5.0f%%  %s%s\n", text_count(s->allocs),
			text_bytes((double)s->bytes), text_bytes((double)s->live_bytes),
			100.0 * (double)s->births[TRACE_BIRTH_FRAME_IN] / (double)s->allocs,
			100.0 * (double)pool / (double)s->allocs, 100.0 * (double)heap / (double)s->allocs, name,
			s->record->folded ? " (several, folded)" : "");
		text_path(report, "", s->record->node, 4);
	}
	if (count > top)
		fprintf(report->out, "%zu more; --top %zu shows all\n", count - top, count);
	free(list);
	text_losses(report);
}

static void leak_table(struct report *report, const char *title, site_key key, uint64_t total)
{
	size_t count, top = report->options.top ? report->options.top : 15;
	const struct model_site **list = sorted(&report->model, key, &count);
	uint64_t told = 0;
	for (size_t i = 0; i < count; i++)
		told += key(list[i]);
	fprintf(report->out, "%s%s%s: %s", text_color(report, "\033[1m"), title, text_color(report, "\033[0m"),
		text_bytes((double)told));
	if (told < total) /* sites are not looked at with every byte that the peak rises */
		fprintf(report->out, " of %s", text_bytes((double)total));
	fprintf(report->out, " at %zu site%s%s\n", count, text_plural(count),
		told < total ? ", when last looked at" : "");
	for (size_t i = 0; i < count && i < top; i++) {
		char name[400];
		text_site_name(name, sizeof name, report, list[i]);
		uint64_t blocks =
			key == key_live ? (uint64_t)list[i]->live_blocks : list[i]->record->live_blocks_at_peak;
		fprintf(report->out, "  %10s in %s block%s  %s\n", text_bytes((double)key(list[i])), text_count(blocks),
			text_plural(blocks), name);
		text_path(report, "", list[i]->record->node, 4);
	}
	if (count > top)
		fprintf(report->out, "  %zu more; --top %zu shows all\n", count - top, count);
	free(list);
}

void cmd_leaks(struct report *report)
{
	leak_table(report, "live at the end", key_live,
		   report->model.live_bytes > 0 ? (uint64_t)report->model.live_bytes : 0);
	fputc('\n', report->out);
	leak_table(report, "live at the peak", key_at_peak, report->model.peak_bytes);
	text_losses(report);
}
