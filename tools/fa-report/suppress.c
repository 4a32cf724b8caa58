/* Suppressions of the policy of a run. What falls under one is taken out before anything judges or shows the violations, and
   counted for the first that it falls under, so that each output says what it does not show, and why. */
#define _GNU_SOURCE
#include <fnmatch.h>
#include <string.h>

#include "tools/fa-report/report.h"

static bool is_called(const char *name, const char *glob)
{
	return name && (!strcmp(name, glob) || !fnmatch(glob, name, FNM_NOESCAPE));
}

static bool function_is(const struct symbol_frame *frame, const char *glob)
{
	if (frame->function)
		return is_called(frame->function, glob) || is_called(frame->signature, glob) ||
		       is_called(frame->linkage_name, glob);
	char shown[512];
	text_frame_name(shown, sizeof shown, frame);
	return is_called(shown, glob);
}

static bool on_path(struct report *report, uint32_t node, const char *glob)
{
	for (; node; node = symbols_parent(report->symbols, node)) {
		const struct symbol_place *place = symbols_of_node(report->symbols, node);
		for (size_t i = 0; !place->own && i < place->count; i++)
			if (function_is(&place->frame[i], glob))
				return true;
	}
	return false;
}

static struct model_suppression *suppression_of(struct report *report, const struct model_violation *v)
{
	struct model *model = &report->model;
	for (size_t i = 0; i < model->suppression_count; i++) {
		const struct trace_suppression *record = model->suppressions[i].record;
		if (record->code == v->code &&
		    (!strcmp(record->path, "*") || on_path(report, model_path(model, v), record->path)))
			return &model->suppressions[i];
	}
	return NULL;
}

void suppress_apply(struct report *report)
{
	struct model *model = &report->model;
	size_t kept = 0;
	for (size_t i = 0; i < model->violation_count; i++) {
		const struct model_violation *v = &model->violations[i];
		struct model_suppression *suppression = suppression_of(report, v);
		if (!suppression) {
			model->violations[kept++] = *v;
			continue;
		}
		suppression->count += v->count;
		suppression->bytes += v->bytes;
		suppression->places++;
	}
	model->violation_count = kept;
}

void suppress_tell(struct report *report)
{
	for (size_t i = 0; i < report->model.suppression_count; i++) {
		const struct model_suppression *suppression = &report->model.suppressions[i];
		if (suppression->places)
			fprintf(report->out, "suppressed  %s violation%s in %s place%s by the policy (%s: %s)\n",
				text_count(suppression->count), text_plural(suppression->count),
				text_count(suppression->places), text_plural(suppression->places),
				suppression->record->name, suppression->record->why);
	}
}
