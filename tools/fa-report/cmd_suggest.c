/* `fa-report suggest`: a policy made from a run, ready for fa-run --policy. What is certain stands as a line, what is a
   matter of taste as a comment; each says what it was seen from. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fa-report/report.h"

#define RULES_MAX 24u /* of the 32 that a policy may have */
#define LOOKED_AT_MAX 64u
typedef char site_text[200]; /* how a rule names a site */

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* As a policy can be read back: one line, no comment sign. */
static bool is_writable(const char *text)
{
	size_t length = strlen(text);
	return length && length < 180 && !strpbrk(text, ";\n\r");
}

static void suggest_markers(struct report *report)
{
	const struct reader_array *markers = reader_array(&report->reader, TRACE_KIND_MARKER, 0);
	bool any = false;
	fprintf(report->out, "\n[markers]\n");
	for (uint32_t i = 0; i < markers->count; i++) {
		const struct trace_marker *m = reader_at(markers, i);
		static const char *const keys[] = {[TRACE_MARKER_FRAME] = "frame",
						   [TRACE_MARKER_FRAME_SCOPE] = "frame-scope",
						   [TRACE_MARKER_TASK] = "task",
						   [TRACE_MARKER_AWAIT] = "await"};
		if (m->kind >= sizeof keys / sizeof *keys || !keys[m->kind] || m->binding == TRACE_BINDING_NONE ||
		    !is_writable(m->name))
			continue;
		any = true;
		if (m->binding == TRACE_BINDING_API) {
			fprintf(report->out, "; the program marks its own: %s\n", m->name);
			continue;
		}
		if (m->reason[0])
			fprintf(report->out, "; %s\n", m->reason);
		fprintf(report->out, "%s = %s\n", keys[m->kind], m->name);
	}
	if (!any)
		fprintf(report->out, "; no frame boundary was found. Name the function that runs once a frame:\n; "
				     "frame = FUNCTION\n");
	for (uint32_t i = 0; i < markers->count; i++) {
		const struct trace_marker *m = reader_at(markers, i);
		if (m->kind == TRACE_MARKER_CANDIDATE && is_writable(m->name))
			fprintf(report->out, "; or: frame = %s (%s)\n", m->name, m->reason[0] ? m->reason : "called");
	}
}

/* Threads that differ in a number only are one: `worker-3` is `worker-*`. */
static void name_pattern(char *out, size_t bytes, const char *name)
{
	size_t at = 0;
	for (; *name && at + 2 < bytes; name++) {
		if (isdigit((unsigned char)*name)) {
			if (!at || out[at - 1] != '*')
				out[at++] = '*';
		} else {
			out[at++] = *name;
		}
	}
	out[at] = 0;
}

static void suggest_roles(struct report *report)
{
	const struct reader_array *threads = reader_array(&report->reader, TRACE_KIND_THREAD, 0);
	const struct trace_thread *main_thread = NULL;
	bool headed = false;
	for (uint32_t i = 0; i < threads->count; i++) {
		const struct trace_thread *thread = reader_at(threads, i);
		if (thread->flags & TRACE_THREAD_MAIN)
			main_thread = thread;
	}
	for (uint32_t i = 0; i < threads->count; i++) {
		const struct trace_thread *thread = reader_at(threads, i);
		char pattern[40], seen[40];
		bool known = !thread->tid || thread->flags & TRACE_THREAD_MAIN || thread->frames || !thread->name[0] ||
			     (main_thread && !strcmp(thread->name, main_thread->name));
		name_pattern(pattern, sizeof pattern, thread->name);
		for (uint32_t j = 0; j < i && !known; j++) {
			const struct trace_thread *other = reader_at(threads, j);
			name_pattern(seen, sizeof seen, other->name);
			known = other->tid && !(other->flags & TRACE_THREAD_MAIN) && !strcmp(seen, pattern);
		}
		if (known || !is_writable(pattern))
			continue;
		if (!headed)
			fprintf(report->out, "\n; threads with names of their own: their blocks come from the "
					     "pool\n[role worker]\n");
		headed = true;
		fprintf(report->out, "name = %s\n", pattern);
	}
}

static void suggest_budgets(struct report *report)
{
	const struct model *model = &report->model;
	const struct model_frames *frames = model->frames_count ? &model->frames[0] : NULL;
	if (!frames || !frames->bytes.known)
		return;
	fprintf(report->out, "\n[thresholds]\n; 95 %% of the frames allocate at most %s, the largest one %s\n",
		text_bytes((double)frames->bytes.p95), text_bytes((double)frames->bytes.max));
	uint64_t kib = (frames->bytes.p95 + frames->bytes.p95 / 4) / 1024 + 1;
	fprintf(report->out, "budget = %lluK\n", (unsigned long long)kib);
}

static uint64_t survivors(const struct model_site *site)
{
	return site->verdicts.outlived_frame + site->old_alive;
}

static int by_survivors(const void *left, const void *right)
{
	const struct model_site *a = *(const struct model_site *const *)left,
				*b = *(const struct model_site *const *)right;
	return survivors(a) != survivors(b) ? (survivors(a) < survivors(b) ? 1 : -1) : a->index < b->index ? -1 : 1;
}

/* How a rule names the site's function. */
static bool site_spec(char *out, size_t bytes, struct report *report, const struct model_site *site)
{
	const struct symbol_frame *frame =
		site->record->class_bytes ? NULL : text_headline(report, site->record->node).frame;
	if (!frame || !frame->module)
		return false;
	if (frame->function && !frame->inlined)
		snprintf(out, bytes, "%s!%s", file_name(frame->module),
			 frame->linkage_name ? frame->linkage_name : frame->function);
	else
		snprintf(out, bytes, "%s+0x%llx", file_name(frame->module), (unsigned long long)frame->offset);
	return is_writable(out) && !strpbrk(out, "*?");
}

/* What a rule for one function would hold for: all call paths that allocate there. */
struct ruled {
	uint64_t in_scope, survivors, allocs;
};

static bool survives(struct ruled blocks, const uint64_t *limit)
{
	return blocks.in_scope >= limit[TRACE_THRESHOLD_MIN_SAMPLES] &&
	       blocks.survivors * 100 > blocks.in_scope * limit[TRACE_THRESHOLD_SURVIVAL];
}

static void add_site(struct ruled *sum, const struct model_site *site)
{
	sum->in_scope += site->allocs - site->verdicts.outside_scopes;
	sum->survivors += survivors(site);
	sum->allocs += site->allocs;
}

/* Each site's, "" where no rule can name it. NULL: there is no memory. */
static site_text *site_specs(struct report *report)
{
	size_t count = report->model.site_count;
	site_text *specs = calloc(count + 1, sizeof *specs);
	for (size_t i = 1; specs && i < count; i++)
		if (!site_spec(specs[i], sizeof specs[i], report, &report->model.sites[i]))
			specs[i][0] = 0;
	return specs;
}

static struct ruled blocks_of(const struct model *model, site_text *specs, const char *spec)
{
	struct ruled sum = {0};
	for (size_t i = 1; i < model->site_count; i++)
		if (!strcmp(specs[i], spec))
			add_site(&sum, &model->sites[i]);
	return sum;
}

static void suggest_rules(struct report *report)
{
	const struct model *model = &report->model;
	const uint64_t *limit = report->reader.header.thresholds;
	const struct model_site **list = calloc(model->site_count + 1, sizeof *list);
	const char *looked_at[LOOKED_AT_MAX];
	size_t count = 0, looked_at_count = 0, rules = 0;
	if (!list) {
		fputs("\n; no rules: out of memory\n", report->out);
		return;
	}
	for (size_t i = 1; i < model->site_count; i++) {
		struct ruled own = {0};
		add_site(&own, &model->sites[i]);
		if (survives(own, limit))
			list[count++] = &model->sites[i];
	}
	site_text *specs = count ? site_specs(report) : NULL;
	if (specs)
		qsort(list, count, sizeof *list, by_survivors);
	for (size_t i = 0; specs && i < count && rules < RULES_MAX && looked_at_count < LOOKED_AT_MAX; i++) {
		const char *spec = specs[list[i] - model->sites];
		bool known = !*spec;
		for (size_t l = 0; l < looked_at_count && !known; l++)
			known = !strcmp(looked_at[l], spec);
		if (known)
			continue;
		looked_at[looked_at_count++] = spec;
		struct ruled all = blocks_of(model, specs, spec);
		fprintf(report->out, "\n; %s of its %s blocks outlived their frame",
			text_percent(all.survivors, all.allocs), text_count(all.allocs));
		if (survives(all, limit))
			fprintf(report->out, "\n[rule escapes-%zu]\ntier = pool\nsite = %s\n", ++rules, spec);
		else
			fprintf(report->out, ", though most of some call paths: no rule for all of them\n; site = %s\n",
				spec);
	}
	free(specs);
	free(list);
}

void cmd_suggest(struct report *report)
{
	const struct trace_header *header = &report->reader.header;
	fprintf(report->out,
		"; A policy from a run of %s (pid %u, %s, %s allocations). Use: fa-run --policy THIS_FILE …\n",
		header->exe, header->pid, text_time((double)report->model.duration_ns),
		text_count(report->model.allocs));
	suggest_markers(report);
	suggest_roles(report);
	suggest_budgets(report);
	suggest_rules(report);
}
