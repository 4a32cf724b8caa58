/* The JSON report, as INTERFACE names its keys. Written as it is made, one object at a time, so that memory does not
   grow with the number of sites; each place in the code is rendered once. */
#define _GNU_SOURCE
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/codes.h"
#include "tools/fa-report/events.h"
#include "tools/fa-report/report.h"

#define COMPACT (JSON_COMPACT | JSON_ENSURE_ASCII)

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* Bytes that are no UTF-8 (names of files and threads may hold any) become question marks. */
static json_t *string(const char *text)
{
	if (!text)
		return json_null();
	json_t *made = json_string(text);
	if (made)
		return made;
	char *copy = strdup(text);
	for (char *c = copy; c && *c; c++)
		if (*c & 0x80)
			*c = '?';
	made = json_string(copy ? copy : "");
	free(copy);
	return made;
}

static void dump(struct report *report, json_t *value)
{
	json_dumpf(value, report->out, COMPACT | JSON_ENCODE_ANY);
	json_decref(value);
}

static void key(struct report *report, const char *name)
{
	fprintf(report->out, ",\n\"%s\":", name);
}

static const char *place_text(struct symbol_place *place)
{
	if (place->user)
		return place->user;
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	for (size_t i = 0; out && i < place->count; i++) {
		const struct symbol_frame *frame = &place->frame[i];
		json_t *object = json_object();
		json_object_set_new(object, "function", string(frame->function));
		json_object_set_new(object, "signature", string(frame->signature));
		json_object_set_new(object, "linkage_name", string(frame->linkage_name));
		json_object_set_new(object, "file", string(frame->file));
		json_object_set_new(object, "line", frame->line > 0 ? json_integer(frame->line) : json_null());
		json_object_set_new(object, "module", string(frame->module));
		json_object_set_new(object, "build_id", string(frame->build_id));
		json_object_set_new(object, "offset", number(frame->offset));
		json_object_set_new(object, "inlined", json_boolean(frame->inlined));
		if (i)
			fputc(',', out);
		json_dumpf(object, out, COMPACT);
		json_decref(object);
	}
	if (out)
		fclose(out);
	return place->user = text ? text : "";
}

static void write_stack(struct report *report, uint32_t node)
{
	bool first = true;
	fputc('[', report->out);
	for (; node; node = symbols_parent(report->symbols, node)) {
		struct symbol_place *place = symbols_of_node(report->symbols, node);
		if (place->own)
			continue;
		fprintf(report->out, "%s%s", first ? "" : ",", place_text(place));
		first = false;
	}
	fputc(']', report->out);
}

static json_t *verdicts(const struct model_verdicts *v)
{
	json_t *object = json_object();
	json_object_set_new(object, "died_in_segment", number(v->died_in_segment));
	json_object_set_new(object, "died_in_frame", number(v->died_in_frame));
	json_object_set_new(object, "crossed_await", number(v->crossed_await));
	json_object_set_new(object, "outlived_frame", number(v->outlived_frame));
	json_object_set_new(object, "died_elsewhere", number(v->died_elsewhere));
	json_object_set_new(object, "never_died", number(v->never_died));
	json_object_set_new(object, "outside_scopes", number(v->outside_scopes));
	return object;
}

static void write_target(struct report *report)
{
	const struct trace_header *header = &report->reader.header;
	json_t *target = json_object(), *args = json_array();
	for (const char *arg = NULL; (arg = reader_argument(&report->reader, arg));)
		json_array_append_new(args, string(arg));
	json_object_set_new(target, "exe", string(header->exe));
	json_object_set_new(target, "pid", number(header->pid));
	json_object_set_new(target, "args", args);
	json_object_set_new(target, "start_unix_ns", number(header->start_unix_ns));
	json_object_set_new(target, "duration_ns", number(report->model.duration_ns));
	json_object_set_new(target, "ended", string(report->model.ended));
	bool known = header->ended != TRACE_ENDED_OPEN && header->end_value >= 0;
	json_object_set_new(target, "end_value", known ? json_integer(header->end_value) : json_null());
	dump(report, target);
}

static void write_totals(struct report *report)
{
	const struct model *model = &report->model;
	const struct trace_header *header = &report->reader.header;
	json_t *totals = json_object();
	json_object_set_new(totals, "allocs", number(model->allocs));
	json_object_set_new(totals, "frees", number(model->frees));
	json_object_set_new(totals, "bytes", number(model->bytes));
	json_object_set_new(totals, "live_blocks", json_integer(model->live_blocks));
	json_object_set_new(totals, "live_bytes", json_integer(model->live_bytes));
	json_object_set_new(totals, "peak_bytes", number(model->peak_bytes));
	json_object_set_new(totals, "peak_error_bytes", number(model->peak_error_bytes));
	const struct model_verdicts *v = &model->verdicts;
	/* Of the frees of blocks born in a frame, those that came before the frame's end, on whichever thread. */
	json_object_set_new(totals, "frees_in_frame",
			    number(v->died_in_segment + v->died_in_frame + v->crossed_await + v->died_elsewhere));
	json_object_set_new(totals, "frees_outside", number(model->frees_outside));
	json_object_set_new(totals, "frees_outside_in_segment", number(model->frees_outside_in_segment));
	json_object_set_new(totals, "untracked_allocs", number(header->untracked_allocs));
	dump(report, totals);
	key(report, "tiers");
	json_t *tiers = json_object();
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		json_t *one = json_object();
		json_object_set_new(one, "allocs", number(model->tier[tier].allocs));
		json_object_set_new(one, "frees", number(model->tier[tier].frees));
		json_object_set_new(one, "bytes", number(model->tier[tier].bytes));
		json_object_set_new(one, "peak_bytes", number(model->tier[tier].peak_bytes));
		json_object_set_new(one, "live_bytes", json_integer(model->tier[tier].live_bytes));
		json_object_set_new(one, "footprint_peak_bytes", number(header->tier_footprint_peak_bytes[tier]));
		json_object_set_new(tiers, text_tier(tier), one);
	}
	json_t *foreign = json_object();
	json_object_set_new(foreign, "frees", number(header->foreign_frees));
	json_object_set_new(tiers, "foreign", foreign);
	dump(report, tiers);
}

static json_t *quantiles(const struct model_quantiles *q)
{
	json_t *object = json_object();
	json_object_set_new(object, "p50", q->known ? number(q->p50) : json_null());
	json_object_set_new(object, "p95", q->known ? number(q->p95) : json_null());
	json_object_set_new(object, "p99", q->known ? number(q->p99) : json_null());
	json_object_set_new(object, "max", q->known ? number(q->max) : json_null());
	return object;
}

static const char *marker_name(struct report *report, const struct trace_thread *thread)
{
	const struct trace_marker *marker =
		thread->boundary_marker
			? reader_at(reader_array(&report->reader, TRACE_KIND_MARKER, 0), thread->boundary_marker - 1)
			: NULL;
	return marker ? marker->name : NULL;
}

static json_t *frames_of(struct report *report, const struct model_frames *frames)
{
	json_t *object = json_object(), *series = json_array();
	const struct trace_thread *thread = frames ? model_thread(&report->model, frames->thread) : NULL;
	static const struct model_frames none = {.duration_ns.known = true, .allocs.known = true, .bytes.known = true};
	if (!frames)
		frames = &none;
	uint64_t start = report->reader.header.start_ns;
	for (size_t i = 0; i < frames->series_count; i++) {
		const struct model_frame *f = &frames->series[i];
		json_t *one = json_object();
		json_object_set_new(one, "n", number(f->number));
		if (f->count != 1)
			json_object_set_new(one, "frames", number(f->count));
		json_object_set_new(one, "begin_ns", number(f->begin_ns - start));
		json_object_set_new(one, "end_ns", number(f->end_ns - start));
		json_object_set_new(one, "allocs", number(f->allocs));
		json_object_set_new(one, "bytes", number(f->bytes));
		json_object_set_new(one, "escapes", number(f->escapes));
		json_object_set_new(one, "violations", number(f->violations));
		json_object_set_new(one, "frame_allocs", number(f->allocs_tier[TRACE_TIER_FRAME]));
		json_object_set_new(one, "pinned_bytes", number(f->pinned_bytes));
		json_array_append_new(series, one);
	}
	json_object_set_new(object, "count", number(frames->count));
	json_object_set_new(object, "thread", thread ? number(thread->tid) : json_null());
	json_object_set_new(object, "marker", thread ? string(marker_name(report, thread)) : json_null());
	json_object_set_new(object, "duration_ns", quantiles(&frames->duration_ns));
	json_object_set_new(object, "allocs", quantiles(&frames->allocs));
	json_object_set_new(object, "bytes", quantiles(&frames->bytes));
	json_object_set_new(object, "series", series);
	return object;
}

static void write_frames(struct report *report)
{
	const struct model *model = &report->model;
	json_t *object = frames_of(report, model->frames_count ? &model->frames[0] : NULL), *all = json_array();
	for (size_t i = 0; i < model->frames_count; i++)
		json_array_append_new(all, frames_of(report, &model->frames[i]));
	json_object_set_new(object, "per_thread", all);
	dump(report, object);
}

static void write_threads(struct report *report)
{
	const struct reader_array *threads = reader_array(&report->reader, TRACE_KIND_THREAD, 0);
	json_t *list = json_array();
	for (uint32_t i = 0; i < threads->count; i++) {
		const struct trace_thread *thread = reader_at(threads, i);
		struct trace_sums sums = trace_thread_sums(thread);
		if (!thread->tid && !sums.allocs && !sums.frees)
			continue; /* the shared slot, unused */
		json_t *one = json_object();
		json_object_set_new(one, "tid", number(thread->tid));
		json_object_set_new(one, "name", string(thread->name));
		json_object_set_new(one, "role", string(text_role(thread->role)));
		json_object_set_new(one, "allocs", number(sums.allocs));
		json_object_set_new(one, "frees", number(sums.frees));
		json_object_set_new(one, "frames", number(thread->frames));
		json_object_set_new(one, "main", json_boolean(thread->flags & TRACE_THREAD_MAIN));
		json_object_set_new(one, "ended", json_boolean(thread->end_ns != 0));
		json_array_append_new(list, one);
	}
	dump(report, list);
}

static json_t *region_name(struct report *report, uint32_t tag)
{
	return tag && tag < report->model.region_count ? string(report->model.regions[tag].record->name) : json_null();
}

static void write_regions(struct report *report)
{
	json_t *list = json_array();
	for (size_t i = 1; i < report->model.region_count; i++) {
		const struct model_region *region = &report->model.regions[i];
		json_t *one = json_object();
		json_object_set_new(one, "name", string(region->record->name));
		json_object_set_new(one, "allocs", number(region->allocs));
		json_object_set_new(one, "frees", number(region->frees));
		json_object_set_new(one, "bytes", number(region->bytes));
		json_object_set_new(one, "live_blocks", json_integer(region->live_blocks));
		json_object_set_new(one, "live_bytes", json_integer(region->live_bytes));
		json_object_set_new(one, "live_bytes_at_peak", number(region->live_bytes_at_peak));
		json_object_set_new(one, "frame_bytes_max", number(region->record->frame_bytes_max));
		json_object_set_new(one, "budget_bytes",
				    region->record->budget_bytes ? number(region->record->budget_bytes) : json_null());
		json_object_set_new(one, "frames_over_budget", number(region->record->frames_over));
		json_object_set_new(one, "tag_mismatches", number(region->foreign));
		json_object_set_new(one, "verdicts", verdicts(&region->verdicts));
		json_array_append_new(list, one);
	}
	dump(report, list);
}

static json_t *task_type(struct report *report, const struct model_task *task)
{
	json_t *one = json_object(), *lifetime = json_object();
	const struct trace_task_type *type = task->record;
	const struct symbol_frame *function = text_task_function(report, task);
	char name[512];
	text_task_name(name, sizeof name, report, task);
	json_object_set_new(one, "name", string(name));
	json_object_set_new(one, "kind", string(text_task_kind(type->kind)));
	json_object_set_new(one, "function", function ? string(function->function) : json_null());
	json_object_set_new(one, "linkage_name", function ? string(function->linkage_name) : json_null());
	json_object_set_new(one, "module", function ? string(function->module) : json_null());
	json_object_set_new(one, "offset", function ? number(function->offset) : json_null());
	json_object_set_new(one, "birth_site", type->birth_site ? number(type->birth_site) : json_null());
	json_object_set_new(one, "started", number(task->started));
	json_object_set_new(one, "ended", number(task->ended));
	json_object_set_new(one, "live_peak", number(type->live_peak));
	json_object_set_new(one, "polls", number(task->polls));
	json_object_set_new(one, "polls_max", number(type->polls_max));
	json_object_set_new(one, "allocs", number(task->allocs));
	json_object_set_new(one, "bytes", number(task->bytes));
	json_object_set_new(one, "bytes_peak", number(type->bytes_peak));
	json_object_set_new(lifetime, "mean", number(task->ended ? task->lifetime_ns / task->ended : 0));
	json_object_set_new(lifetime, "max", number(type->lifetime_max_ns));
	json_object_set_new(one, "lifetime_ns", lifetime);
	json_object_set_new(one, "crossed_await", number(task->crossed_await));
	json_object_set_new(one, "left_blocks", number(task->left_blocks));
	json_object_set_new(one, "left_bytes", number(task->left_bytes));
	return one;
}

static void write_tasks(struct report *report)
{
	const struct model *model = &report->model;
	json_t *all = json_object(), *types = json_array();
	for (size_t i = 0; i < model->task_count; i++)
		if (model->tasks[i].started)
			json_array_append_new(types, task_type(report, &model->tasks[i]));
	json_object_set_new(all, "started", number(model->task_total.started));
	json_object_set_new(all, "ended", number(model->task_total.ended));
	json_object_set_new(all, "polls", number(model->task_total.polls));
	json_object_set_new(all, "types", types);
	dump(report, all);
}

static void write_markers(struct report *report)
{
	const struct reader_array *markers = reader_array(&report->reader, TRACE_KIND_MARKER, 0);
	const struct reader_array *modules = reader_array(&report->reader, TRACE_KIND_MODULE, 0);
	json_t *list = json_array();
	for (uint32_t i = 0; i < markers->count; i++) {
		const struct trace_marker *marker = reader_at(markers, i);
		const struct trace_module *module = reader_at(modules, marker->module);
		json_t *one = json_object();
		json_object_set_new(one, "name", string(marker->name));
		json_object_set_new(one, "kind", string(text_marker_kind(marker->kind)));
		json_object_set_new(one, "module", module ? string(module->path) : json_null());
		json_object_set_new(one, "offset", number(marker->offset));
		json_object_set_new(one, "bound", json_boolean(text_binding(marker->binding) != NULL));
		json_object_set_new(one, "binding", string(text_binding(marker->binding)));
		json_object_set_new(one, "reason", marker->reason[0] ? string(marker->reason) : json_null());
		json_object_set_new(one, "calls", number(trace_marker_calls(marker)));
		json_object_set_new(one, "automatic", json_boolean(marker->automatic));
		if (marker->candidate) {
			const struct trace_thread *thread =
				marker->thread ? model_thread(&report->model, marker->thread - 1) : NULL;
			json_object_set_new(one, "period_ns", number(marker->period_ns));
			json_object_set_new(one, "jitter_percent", number(marker->jitter_percent));
			json_object_set_new(one, "thread", thread ? number(thread->tid) : json_null());
		}
		if (marker->kind == TRACE_MARKER_REGION)
			json_object_set_new(one, "region", region_name(report, marker->tag));
		json_array_append_new(list, one);
	}
	dump(report, list);
}

static void write_site(struct report *report, const struct model_site *site)
{
	json_t *one = json_object(), *tier = json_object(), *lifetime = json_object();
	json_object_set_new(one, "id", number(site->index));
	json_object_set_new(one, "allocs", number(site->allocs));
	json_object_set_new(one, "frees", number(site->frees));
	json_object_set_new(one, "bytes", number(site->bytes));
	json_object_set_new(one, "live_blocks", json_integer(site->live_blocks));
	json_object_set_new(one, "live_bytes", json_integer(site->live_bytes));
	json_object_set_new(one, "peak_bytes", json_integer(site->peak_bytes));
	json_object_set_new(one, "live_bytes_at_peak", number(site->record->live_bytes_at_peak));
	json_object_set_new(one, "verdicts", verdicts(&site->verdicts));
	json_object_set_new(tier, "frame", number(site->births[TRACE_BIRTH_FRAME_IN]));
	json_object_set_new(tier, "pool",
			    number(site->births[TRACE_BIRTH_POOL_IN] + site->births[TRACE_BIRTH_POOL_OUT]));
	json_object_set_new(tier, "heap",
			    number(site->births[TRACE_BIRTH_HEAP_IN] + site->births[TRACE_BIRTH_HEAP_OUT]));
	json_object_set_new(one, "tier", tier);
	json_object_set_new(lifetime, "p50", number(site->lifetime_p50));
	json_object_set_new(lifetime, "p95", number(site->lifetime_p95));
	json_object_set_new(lifetime, "max", number(site->lifetime_max));
	json_object_set_new(one, "lifetime_frames", lifetime);
	json_object_set_new(one, "demotions", number(site->record->demotions));
	json_object_set_new(one, "promotions", number(site->record->promotions));
	json_object_set_new(one, "folded", json_boolean(site->record->folded));
	if (report->model.region_count)
		json_object_set_new(one, "region", region_name(report, site->record->tag));
	if (site->record->class_bytes) {
		json_object_set_new(one, "class_bytes", number(site->record->class_bytes));
		json_object_set_new(one, "role", string(text_role(site->record->role)));
	}
	char *text = json_dumps(one, COMPACT);
	json_decref(one);
	text[strlen(text) - 1] = 0; /* the stack is added inside the object */
	fprintf(report->out, "%s,\"stack\":", text);
	free(text);
	write_stack(report, site->record->node);
	fputc('}', report->out);
}

static void write_thread_name(struct report *report, uint32_t index)
{
	const struct trace_thread *thread = model_thread(&report->model, index);
	dump(report, thread ? number(thread->tid) : json_null());
}

static void write_violation(struct report *report, const struct model_violation *v)
{
	const struct code_info *info = codes_find(v->code);
	char code[16], fingerprint[20], message[1024];
	snprintf(code, sizeof code, "FA%03u", v->code);
	text_fingerprint(fingerprint, report, v);
	text_violation_message(message, sizeof message, report, v);
	const struct trace_occurrence *first = v->record && v->record->occurrences ? &v->record->occurrence[0] : NULL;
	json_t *one = json_object();
	json_object_set_new(one, "code", string(code));
	json_object_set_new(one, "name", string(info ? info->name : "unknown"));
	json_object_set_new(one, "level", string(text_level(v->level)));
	json_object_set_new(one, "count", number(v->count));
	json_object_set_new(one, "bytes", number(v->bytes));
	json_object_set_new(one, "first_frame", number(v->first_frame));
	json_object_set_new(one, "last_frame", number(v->last_frame));
	json_object_set_new(one, "worst_lifetime_frames", number(v->worst_lifetime_frames));
	json_object_set_new(one, "value", v->limit ? number(v->value) : json_null());
	json_object_set_new(one, "limit", v->limit ? number(v->limit) : json_null());
	if (v->tag)
		json_object_set_new(one, "region", region_name(report, v->tag));
	if (v->role)
		json_object_set_new(one, "role", string(text_role(v->role)));
	json_object_set_new(one, "fingerprint", string(fingerprint));
	json_object_set_new(one, "message", string(message));
	json_object_set_new(one, "help", string(info ? info->help : ""));
	char *text = json_dumps(one, COMPACT);
	json_decref(one);
	text[strlen(text) - 1] = 0;
	fprintf(report->out, "%s,\"born\":", text);
	free(text);
	const struct model_site *site =
		v->site && v->site < report->model.site_count ? &report->model.sites[v->site] : NULL;
	fprintf(report->out, "{\"site\":");
	dump(report, site ? number(v->site) : json_null());
	fprintf(report->out, ",\"thread\":");
	write_thread_name(report, first ? first->born_thread : v->thread);
	fprintf(report->out, ",\"stack\":");
	write_stack(report, site ? site->record->node : 0);
	fprintf(report->out, "},\"scope_end\":");
	if (first && first->scope_end_node) {
		fprintf(report->out, "{\"stack\":");
		write_stack(report, first->scope_end_node);
		fputc('}', report->out);
	} else {
		fprintf(report->out, "null");
	}
	fprintf(report->out, ",\"died\":");
	if (first && first->died_thread != UINT32_MAX) {
		fprintf(report->out, "{\"thread\":");
		write_thread_name(report, first->died_thread);
		fprintf(report->out, ",\"stack\":");
		write_stack(report, first->died_node);
		fputc('}', report->out);
	} else {
		fprintf(report->out, "null");
	}
	fputc('}', report->out);
}

static void write_suppressed(struct report *report)
{
	json_t *list = json_array();
	for (size_t i = 0; i < report->model.suppression_count; i++) {
		const struct model_suppression *suppression = &report->model.suppressions[i];
		json_t *one = json_object();
		json_object_set_new(one, "name", string(suppression->record->name));
		json_object_set_new(one, "code", json_sprintf("FA%03u", suppression->record->code));
		json_object_set_new(one, "path", string(suppression->record->path));
		json_object_set_new(one, "why", string(suppression->record->why));
		json_object_set_new(one, "count", number(suppression->count));
		json_object_set_new(one, "bytes", number(suppression->bytes));
		json_object_set_new(one, "places", number(suppression->places));
		json_array_append_new(list, one);
	}
	dump(report, list);
}

static void write_losses(struct report *report)
{
	const uint64_t *losses = report->reader.header.losses;
	json_t *object = json_object(), *reasons = json_array();
	uint64_t events = losses[TRACE_LOSS_COUNTERS] + losses[TRACE_LOSS_VIOLATIONS] + losses[TRACE_LOSS_EVENTS];
	json_object_set_new(object, "events", number(events));
	json_object_set_new(object, "sites", number(losses[TRACE_LOSS_SITES]));
	json_object_set_new(object, "stacks",
			    number(losses[TRACE_LOSS_STACKS] + losses[TRACE_LOSS_DEPTH] + losses[TRACE_LOSS_NODES] +
				   losses[TRACE_LOSS_UNWINDING]));
	for (int i = 0; i < TRACE_LOSS_COUNT; i++)
		if (losses[i]) {
			char text[256];
			snprintf(text, sizeof text, "%llu %s", (unsigned long long)losses[i],
				 codes_loss_text((enum trace_loss)i));
			json_array_append_new(reasons, string(text));
		}
	if (report->reader.damage[0])
		json_array_append_new(reasons, string(report->reader.damage));
	json_object_set_new(object, "reasons", reasons);
	dump(report, object);
}

static void write_call_paths(struct report *report)
{
	const struct trace_header *header = &report->reader.header;
	json_t *object = json_object();
	json_object_set_new(object, "captured", number(header->stack_captures));
	json_object_set_new(object, "hits", number(header->stack_hits));
	json_object_set_new(object, "checked", number(header->stack_checks));
	json_object_set_new(object, "wrong", number(header->stack_wrong));
	dump(report, object);
}

/* null where the run was not recorded at level full. */
static void write_events(struct report *report)
{
	struct events_totals totals;
	if (!report->reader.header.level_full || !events_read(report->path, NULL, NULL, true, &totals)) {
		dump(report, json_null());
		return;
	}
	json_t *object = json_object();
	json_object_set_new(object, "births", number(totals.births));
	json_object_set_new(object, "deaths", number(totals.deaths + totals.unknown_deaths));
	json_object_set_new(object, "bytes", number(totals.bytes));
	json_object_set_new(object, "lost", number(totals.lost));
	json_object_set_new(object, "whole", json_boolean(totals.closed && !totals.damage[0]));
	dump(report, object);
	if (totals.damage[0])
		fprintf(stderr, "fa-report: %s\n", totals.damage);
}

void out_json(struct report *report)
{
	const struct model *model = &report->model;
	fprintf(report->out, "{\"schema\":\"framealloc-report/1\"");
	key(report, "target");
	write_target(report);
	fprintf(report->out, ",\n\"mode\":\"%s\",\n\"stacks\":\"%s\"", text_mode(report->reader.header.mode),
		text_stacks(report->reader.header.stacks));
	key(report, "totals");
	write_totals(report);
	key(report, "frames");
	write_frames(report);
	key(report, "verdicts");
	dump(report, verdicts(&model->verdicts));
	key(report, "tasks");
	write_tasks(report);
	key(report, "threads");
	write_threads(report);
	key(report, "markers");
	write_markers(report);
	key(report, "automatic");
	dump(report, string(text_automatic(report->reader.header.automatic)));
	key(report, "regions");
	write_regions(report);
	key(report, "sites");
	fputc('[', report->out);
	bool first = true;
	for (size_t i = 0; i < model->site_count; i++) {
		if (!model->sites[i].allocs && !model->sites[i].frees)
			continue;
		fputs(first ? "\n" : ",\n", report->out);
		write_site(report, &model->sites[i]);
		first = false;
	}
	fputc(']', report->out);
	key(report, "violations");
	fputc('[', report->out);
	for (size_t i = 0; i < model->violation_count; i++) {
		fputs(i ? ",\n" : "\n", report->out);
		write_violation(report, &model->violations[i]);
	}
	fputc(']', report->out);
	if (model->suppression_count) {
		key(report, "suppressed");
		write_suppressed(report);
	}
	key(report, "call_paths");
	write_call_paths(report);
	key(report, "events");
	write_events(report);
	key(report, "losses");
	write_losses(report);
	fprintf(report->out, "}\n");
}
