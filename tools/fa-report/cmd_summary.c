/* `fa-report RECORDING`: the page that answers what a run cost and what stands out. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/fa-report/events.h"
#include "tools/fa-report/report.h"

static void print_target(struct report *report)
{
	const struct trace_header *header = &report->reader.header;
	fprintf(report->out, "%s%s%s", text_color(report, "\033[1m"), header->exe, text_color(report, "\033[0m"));
	const char *arg = reader_argument(&report->reader, NULL);
	while (arg && (arg = reader_argument(&report->reader, arg)))
		fprintf(report->out, " %s", *arg ? arg : "''");
	fprintf(report->out, "\n  process     pid %u, %s%s, %s", header->pid,
		report->model.lived_longer ? "at least " : "", text_time((double)report->model.duration_ns),
		report->model.ended);
	if (header->ended != TRACE_ENDED_OPEN && header->end_value >= 0)
		fprintf(report->out, " %d", header->end_value);
	fprintf(report->out, "; mode=%s stacks=%s\n", text_mode(header->mode), text_stacks(header->stacks));
}

/* Looks for the recording of what has replaced this one's program (execve): it begins where this one ends. Its name is the first
   `stem` bytes of this one's and a number, `number` or more. */
static bool print_successor_named(struct report *report, int stem, unsigned long number)
{
	const struct trace_header *header = &report->reader.header;
	for (bool there = true; there; number++) {
		bool found = false;
		char *path;
		struct reader next;
		if (asprintf(&path, "%.*s.%lu", stem, report->path, number) < 0)
			abort();
		there = access(path, F_OK) == 0;
		if (there && !reader_open(&next, path)) {
			found = next.header.pid == header->pid && next.header.start_ns == header->end_ns;
			if (found)
				fprintf(report->out, "  replaced    by %s, whose recording is %s\n", next.header.exe,
					path);
			reader_close(&next);
		}
		free(path);
		if (found)
			return true;
	}
	return false;
}

static void print_successor(struct report *report)
{
	const struct trace_header *header = &report->reader.header;
	if (header->ended != TRACE_ENDED_EXIT || header->end_value >= 0 ||
	    print_successor_named(report, (int)strlen(report->path), 1))
		return;
	const char *dot = strrchr(report->path, '.'); /* of several in a row all are numbered after the first */
	if (dot && dot[1] && !dot[1 + strspn(dot + 1, "0123456789")])
		print_successor_named(report, (int)(dot - report->path), strtoul(dot + 1, NULL, 10) + 1);
}

static void print_frames(struct report *report)
{
	const struct model *model = &report->model;
	if (!model->frames_count) {
		bool searched = report->reader.header.automatic == TRACE_AUTOMATIC_SEARCHED;
		fprintf(report->out, "  frames      none: %s (--frame FUNC names %s)\n",
			searched ? "nothing that could bound a frame is called periodically" : "no boundary was seen",
			searched ? "a boundary" : "one");
		return;
	}
	for (size_t i = 0; i < model->frames_count && i < 4; i++) {
		const struct model_frames *f = &model->frames[i];
		const struct trace_thread *thread = model_thread(model, f->thread);
		fprintf(report->out, "  frames      %s on thread %u (%s)\n", text_count(f->count), thread->tid,
			thread->name);
		if (!f->duration_ns.known) {
			fprintf(report->out,
				"              time, alloc and bytes unknown: no frame that has ended is in the "
				"recording\n");
			continue;
		}
		fprintf(report->out, "              time  p50 %-10s p95 %-10s max %s\n",
			text_time((double)f->duration_ns.p50), text_time((double)f->duration_ns.p95),
			text_time((double)f->duration_ns.max));
		fprintf(report->out, "              alloc p50 %-10s p95 %-10s max %s\n", text_count(f->allocs.p50),
			text_count(f->allocs.p95), text_count(f->allocs.max));
		fprintf(report->out, "              bytes p50 %-10s p95 %-10s max %s\n",
			text_bytes((double)f->bytes.p50), text_bytes((double)f->bytes.p95),
			text_bytes((double)f->bytes.max));
	}
	if (model->frames_count > 4)
		fprintf(report->out, "              … and %zu more frame threads (fa-report frames)\n",
			model->frames_count - 4);
}

static void print_markers(struct report *report)
{
	const struct reader_array *markers = reader_array(&report->reader, TRACE_KIND_MARKER, 0);
	const char *label = "marker     ";
	uint32_t shown = 0, candidates = 0;
	for (uint32_t i = 0; i < markers->count; i++) {
		const struct trace_marker *m = reader_at(markers, i);
		if (m->kind == TRACE_MARKER_CANDIDATE) {
			candidates++;
			continue;
		}
		if (shown++ == 8)
			break;
		fprintf(report->out, "  %s %s: %s%s%s%s, %s calls\n", label, m->name,
			m->automatic ? "found by itself, " : "",
			text_binding(m->binding) ? text_binding(m->binding) : "not bound", m->reason[0] ? ": " : "",
			m->reason, text_count(trace_marker_calls(m)));
		label = "           ";
	}
	if (candidates)
		fprintf(report->out, "  %s %u other call%s watched (fa-report markers)\n", label, candidates,
			candidates == 1 ? " was" : "s were");
}

static void print_totals(struct report *report)
{
	const struct model *model = &report->model;
	fprintf(report->out, "  heap        %s allocations, %s frees, %s requested; peak %s", text_count(model->allocs),
		text_count(model->frees), text_bytes((double)model->bytes), text_bytes((double)model->peak_bytes));
	if (model->peak_error_bytes > model->peak_bytes / 100)
		fprintf(report->out, " (up to %s more)", text_bytes((double)model->peak_error_bytes));
	fprintf(report->out, ", live at the end %s in %s blocks\n", text_bytes((double)model->live_bytes),
		text_count(model->live_blocks > 0 ? (uint64_t)model->live_blocks : 0));
	fprintf(report->out, "  tiers      ");
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		fprintf(report->out, " %s %s (%s)", text_tier(tier),
			text_percent(model->tier[tier].allocs, model->allocs), text_count(model->tier[tier].allocs));
	uint64_t foreign = report->reader.header.foreign_frees;
	if (foreign)
		fprintf(report->out, "; %s frees of other allocators' blocks", text_count(foreign));
	fputc('\n', report->out);
}

static void print_verdicts(struct report *report)
{
	const struct model_verdicts *v = &report->model.verdicts;
	uint64_t all = report->model.allocs;
	const struct {
		const char *words;
		uint64_t count;
	} rows[] = {{"died in their segment", v->died_in_segment}, {"died in their frame", v->died_in_frame},
		    {"crossed an await", v->crossed_await},        {"outlived their frame", v->outlived_frame},
		    {"died on another thread", v->died_elsewhere}, {"never died", v->never_died},
		    {"born outside frames", v->outside_scopes}};
	const char *label = "blocks     ";
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (!rows[i].count)
			continue;
		fprintf(report->out, "  %s %7s %s (%s)\n", label, text_percent(rows[i].count, all), rows[i].words,
			text_count(rows[i].count));
		label = "           ";
	}
}

static uint64_t escapes_of(const struct model_site *site)
{
	/* What a task hands to others has left no frame. */
	return site->in_tasks ? 0 : site->verdicts.outlived_frame + site->old_alive + site->verdicts.died_elsewhere;
}

/* Sites whose headline is the same call, as one row. */
struct escape_row {
	const struct symbol_frame *call;
	const struct model_site *site; /* the first of them */
	uint64_t escapes, born, worst_frames, paths;
};

static int by_call(const void *left, const void *right)
{
	const struct escape_row *a = left, *b = right;
	return a->call != b->call ? (a->call < b->call ? -1 : 1) : a->site->index < b->site->index ? -1 : 1;
}

static int by_escapes(const void *left, const void *right)
{
	const struct escape_row *a = left, *b = right;
	return a->escapes != b->escapes ? (a->escapes < b->escapes ? 1 : -1) : a->site->index < b->site->index ? -1 : 1;
}

static size_t merge_rows(struct escape_row *row, size_t count)
{
	size_t merged = 0;
	qsort(row, count, sizeof *row, by_call);
	for (size_t i = 0; i < count; i++) {
		struct escape_row *last = merged ? &row[merged - 1] : NULL;
		if (!last || !row[i].call || last->call != row[i].call) {
			row[merged++] = row[i];
			continue;
		}
		last->escapes += row[i].escapes;
		last->born += row[i].born;
		last->paths++;
		if (row[i].worst_frames > last->worst_frames)
			last->worst_frames = row[i].worst_frames;
	}
	qsort(row, merged, sizeof *row, by_escapes);
	return merged;
}

static void print_escapes(struct report *report)
{
	const struct model *model = &report->model;
	struct escape_row *row = calloc(model->site_count + 1, sizeof *row);
	size_t count = 0;
	for (size_t i = 0; row && i < model->site_count; i++) {
		const struct model_site *site = &model->sites[i];
		if (escapes_of(site))
			row[count++] = (struct escape_row){text_headline(report, site->record->node).frame,
							   site,
							   escapes_of(site),
							   site->allocs - site->verdicts.outside_scopes,
							   site->lifetime_max,
							   1};
	}
	if (count) {
		size_t paths = count, top = report->options.top ? report->options.top : 10;
		count = merge_rows(row, count);
		fprintf(report->out, "\n%stop escaping call sites%s (of %zu, with %zu call paths)\n",
			text_color(report, "\033[1m"), text_color(report, "\033[0m"), count, paths);
		fprintf(report->out, "  %12s %8s %8s %12s  %s\n", "escapes", "share", "paths", "frames lived",
			"born in");
		for (size_t i = 0; i < count && i < top; i++) {
			char name[400], lived[48] = "";
			text_site_name(name, sizeof name, report, row[i].site);
			if (row[i].worst_frames)
				snprintf(lived, sizeof lived, "up to %s", text_count(row[i].worst_frames));
			fprintf(report->out, "  %12s %8s %8s %12s  %s\n", text_count(row[i].escapes),
				text_percent(row[i].escapes, row[i].born), text_count(row[i].paths), lived, name);
		}
	}
	free(row);
}

static void print_violations(struct report *report)
{
	const struct model *model = &report->model;
	uint64_t count[TRACE_LEVEL_ERROR + 1] = {0}, keys[TRACE_LEVEL_ERROR + 1] = {0};
	for (size_t i = 0; i < model->violation_count; i++) {
		count[model->violations[i].level] += model->violations[i].count;
		keys[model->violations[i].level]++;
	}
	fprintf(report->out, "\n%sviolations%s", text_color(report, "\033[1m"), text_color(report, "\033[0m"));
	if (!model->violation_count && model->violations_lost)
		fprintf(report->out, "  none recorded; %s could not be", text_count(model->violations_lost));
	else if (!model->violation_count)
		fprintf(report->out, "  none");
	for (int level = TRACE_LEVEL_ERROR; level > TRACE_LEVEL_ALLOW; level--)
		if (count[level])
			fprintf(report->out, "  %s %s%s in %s place%s", text_count(count[level]),
				text_level((enum trace_level)level), text_plural(count[level]), text_count(keys[level]),
				text_plural(keys[level]));
	fprintf(report->out, "%s\n", model->violation_count ? "; `fa-report violations` shows them" : "");
	suppress_tell(report);
}

/* The events beside the recording, held against its sums. */
static void print_events(struct report *report)
{
	struct events_totals totals;
	const struct trace_header *header = &report->reader.header;
	if (!header->level_full)
		return;
	if (!events_read(report->path, NULL, NULL, true, &totals)) {
		fprintf(report->out, "  events      none: %s.events is not there\n", report->path);
		return;
	}
	uint64_t deaths = totals.deaths + totals.unknown_deaths;
	fprintf(report->out, "  events      %s births, %s deaths; %s, %.2f bytes a birth", text_count(totals.births),
		text_count(deaths), text_bytes((double)totals.bytes),
		totals.births ? (double)totals.bytes / (double)totals.births : 0);
	if (totals.lost)
		fprintf(report->out, "; %s lost", text_count(totals.lost));
	else if (totals.births == report->model.allocs && deaths == report->model.frees)
		fputs("; as the sums say", report->out);
	else
		fprintf(report->out, "; the sums say %s and %s", text_count(report->model.allocs),
			text_count(report->model.frees));
	fprintf(report->out, "%s\n", totals.closed ? "" : "; cut: the launcher was killed");
	if (totals.damage[0])
		fprintf(stderr, "fa-report: %s\n", totals.damage);
}

void cmd_summary(struct report *report)
{
	print_target(report);
	print_successor(report);
	print_frames(report);
	print_markers(report);
	print_totals(report);
	print_verdicts(report);
	if (report->model.region_count)
		fputc('\n', report->out);
	regions_table(report);
	if (report->model.task_total.started)
		fputc('\n', report->out);
	tasks_table(report);
	print_events(report);
	text_losses(report);
	const struct trace_header *header = &report->reader.header;
	if (header->stack_wrong)
		fprintf(report->out, "  call paths  %s of %s re-verified were wrong\n", text_count(header->stack_wrong),
			text_count(header->stack_checks));
	print_escapes(report);
	print_violations(report);
}
