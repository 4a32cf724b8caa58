/* `fa-report frames`, `threads` and `markers`: the plain tables. */
#include "tools/fa-report/report.h"

static void frame_rows(struct report *report, const struct model_frames *frames)
{
	size_t top = report->options.top ? report->options.top : 40;
	size_t from = frames->series_count > top ? frames->series_count - top : 0;
	if (from)
		fprintf(report->out, "  (%zu earlier rows; --top %zu shows all)\n", from, frames->series_count);
	fprintf(report->out, "  %10s %12s %10s %12s %8s %8s %10s\n", "frame", "time", "allocs", "bytes", "frames%",
		"escapes", "violations");
	for (size_t i = from; i < frames->series_count; i++) {
		const struct model_frame *f = &frames->series[i];
		char label[40];
		if (f->count == 1)
			snprintf(label, sizeof label, "%llu", (unsigned long long)f->number);
		else
			snprintf(label, sizeof label, "%llu+%llu", (unsigned long long)f->number,
				 (unsigned long long)f->count);
		fprintf(report->out, "  %10s %12s %10s %12s %7.0f%% %8s %10s\n", label,
			text_time((double)f->busy_ns / (double)f->count), text_count(f->allocs),
			text_bytes((double)f->bytes),
			f->allocs ? 100.0 * (double)f->allocs_tier[TRACE_TIER_FRAME] / (double)f->allocs : 0.0,
			text_count(f->escapes), text_count(f->violations));
	}
}

void cmd_frames(struct report *report)
{
	const struct model *model = &report->model;
	for (size_t i = 0; i < model->frames_count; i++) {
		const struct model_frames *f = &model->frames[i];
		const struct trace_thread *thread = model_thread(model, f->thread);
		fprintf(report->out, "thread %u (%s): %s frames, the last one open\n", thread->tid, thread->name,
			text_count(f->count));
		if (f->duration_ns.known)
			fprintf(report->out, "  time  p50 %s, p95 %s, p99 %s, max %s; ",
				text_time((double)f->duration_ns.p50), text_time((double)f->duration_ns.p95),
				text_time((double)f->duration_ns.p99), text_time((double)f->duration_ns.max));
		else
			fprintf(report->out, "  time  unknown; ");
		fprintf(report->out, "idle %s in all\n", text_time((double)thread->idle_ns));
		frame_rows(report, f);
	}
	if (!model->frames_count)
		fprintf(report->out, "no frames: no boundary was seen\n");
	text_losses(report);
}

void cmd_threads(struct report *report)
{
	const struct reader_array *threads = reader_array(&report->reader, TRACE_KIND_THREAD, 0);
	fprintf(report->out, "%8s %-16s %-7s %14s %14s %10s %10s  %s\n", "tid", "name", "role", "allocations", "frees",
		"bytes", "frames", "");
	for (uint32_t i = 0; i < threads->count; i++) {
		const struct trace_thread *t = reader_at(threads, i);
		struct trace_sums sums = trace_thread_sums(t);
		if (!t->tid && !sums.allocs && !sums.frees)
			continue;
		fprintf(report->out, "%8u %-16s %-7s %14s %14s %10s %10s  %s%s\n", t->tid, t->name, text_role(t->role),
			text_count(sums.allocs), text_count(sums.frees), text_bytes((double)sums.bytes),
			text_count(t->frames),
			t->flags & TRACE_THREAD_MAIN ? "main"
			: t->end_ns                  ? "ended"
						     : "",
			t->folded_threads ? " (several)" : "");
	}
	text_losses(report);
}

void cmd_markers(struct report *report)
{
	const struct reader_array *markers = reader_array(&report->reader, TRACE_KIND_MARKER, 0);
	const struct reader_array *modules = reader_array(&report->reader, TRACE_KIND_MODULE, 0);
	for (uint32_t i = 0; i < markers->count; i++) {
		const struct trace_marker *m = reader_at(markers, i);
		const struct trace_module *module = reader_at(modules, m->module);
		fprintf(report->out, "%s  %s, %s", m->name, text_marker_kind(m->kind),
			text_binding(m->binding) ? text_binding(m->binding) : "not bound");
		if (m->reason[0])
			fprintf(report->out, " (%s)", m->reason);
		if (module)
			fprintf(report->out, ", in %s+0x%llx", module->path, (unsigned long long)m->offset);
		fprintf(report->out, ", %s calls%s\n", text_count(trace_marker_calls(m)),
			m->automatic ? ", found by itself" : "");
	}
	if (!markers->count)
		fprintf(report->out, report->reader.header.automatic
					     ? "no markers: nothing that could be a frame boundary was called\n"
					     : "no markers: none was asked for\n");
}
