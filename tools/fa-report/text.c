/* Words, units and paths as people read them. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/registry/codes.h"
#include "tools/fa-report/report.h"

static char *buffer(void)
{
	static char buffers[16][48];
	static unsigned next;
	return buffers[next++ % 16];
}

static const char *word(const char *const *words, size_t count, uint32_t index)
{
	return index < count ? words[index] : "unknown";
}
#define WORD(words, index) word(words, sizeof(words) / sizeof *(words), index)

const char *text_role(uint32_t role)
{
	static const char *const words[] = {"none", "frame", "worker", "async", "io"};
	return WORD(words, role);
}

const char *text_tier(int tier)
{
	static const char *const words[] = {"frame", "pool", "heap"};
	return WORD(words, (uint32_t)tier);
}

const char *text_mode(uint32_t mode)
{
	static const char *const words[] = {"off", "observe", "route", "enforce"};
	return WORD(words, mode);
}

const char *text_stacks(uint32_t stacks)
{
	static const char *const words[] = {"none", "caller", "full"};
	return WORD(words, stacks);
}

const char *text_level(enum trace_level level)
{
	static const char *const words[] = {"allow", "hint", "warning", "error"};
	return WORD(words, (uint32_t)level);
}

const char *text_binding(uint32_t binding)
{
	static const char *const words[] = {NULL, "patch", "got", "call", "api"};
	return binding < 5 ? words[binding] : NULL;
}

const char *text_marker_kind(uint32_t kind)
{
	static const char *const words[] = {"frame",     "frame-scope", "task",     "await", "region",
					    "candidate", "transfer",    "task-end", "stack", "switch"};
	return WORD(words, kind);
}

const char *text_automatic(uint32_t automatic)
{
	static const char *const words[] = {"off", "searched", "found"};
	return WORD(words, automatic);
}

const char *text_bytes(double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;
	double size = bytes < 0 ? -bytes : bytes;
	while (size >= 1024 && unit < 4) {
		size /= 1024;
		unit++;
	}
	char *out = buffer();
	snprintf(out, 48, unit && size < 100 ? "%s%.1f %s" : "%s%.0f %s", bytes < 0 ? "-" : "", size, units[unit]);
	return out;
}

const char *text_time(double ns)
{
	char *out = buffer();
	if (ns < 1e3)
		snprintf(out, 48, "%.0f ns", ns);
	else if (ns < 1e6)
		snprintf(out, 48, "%.1f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(out, 48, "%.2f ms", ns / 1e6);
	else
		snprintf(out, 48, "%.2f s", ns / 1e9);
	return out;
}

const char *text_plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

const char *text_count(uint64_t count)
{
	char digits[24], *out = buffer(), *to = out;
	int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
	for (int i = 0; i < length; i++) {
		*to++ = digits[i];
		if ((length - 1 - i) % 3 == 0 && i != length - 1)
			*to++ = ',';
	}
	*to = 0;
	return out;
}

const char *text_percent(uint64_t part, uint64_t whole)
{
	char *out = buffer();
	snprintf(out, 48, "%.1f %%", whole ? 100.0 * (double)part / (double)whole : 0.0);
	return out;
}

const char *text_color(const struct report *report, const char *code)
{
	return report->options.color ? code : "";
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

void text_frame_name(char *out, size_t bytes, const struct symbol_frame *frame)
{
	if (!frame)
		snprintf(out, bytes, "(unknown)");
	else if (frame->function && frame->file)
		snprintf(out, bytes, "%s (%s:%d)", frame->function, base_name(frame->file), frame->line);
	else if (frame->function)
		snprintf(out, bytes, "%s (%s)", frame->function, frame->module ? base_name(frame->module) : "?");
	else if (frame->module)
		snprintf(out, bytes, "%s+0x%llx", base_name(frame->module), (unsigned long long)frame->offset);
	else
		snprintf(out, bytes, "0x%llx (no module)", (unsigned long long)frame->offset);
}

void text_site_name(char *out, size_t bytes, struct report *report, const struct model_site *site)
{
	if (site->record->class_bytes)
		snprintf(out, bytes, "blocks of up to %u bytes, role %s", site->record->class_bytes,
			 text_role(site->record->role));
	else
		text_frame_name(out, bytes, text_headline(report, site->record->node).frame);
}

void text_path(struct report *report, const char *label, uint32_t node, size_t frames)
{
	size_t skip = text_headline(report, node).at, at = 0, shown = 0, left = 0;
	for (; node; node = symbols_parent(report->symbols, node)) {
		const struct symbol_place *place = symbols_of_node(report->symbols, node);
		for (size_t i = 0; i < place->count; i++, at++) {
			if (place->own || at < skip)
				continue;
			if (shown == frames) {
				left++;
				continue;
			}
			char name[512];
			text_frame_name(name, sizeof name, &place->frame[i]);
			fprintf(report->out, "   %s%-11s%s %s%s\n", text_color(report, "\033[36m"), shown ? "" : label,
				text_color(report, "\033[0m"), name, place->frame[i].inlined ? " [inlined]" : "");
			shown++;
		}
	}
	if (left)
		fprintf(report->out, "   %-11s … %zu more\n", "", left);
}

/* Plain files only: a name from a recording may be anything's. */
static FILE *open_plain(const char *path)
{
	struct stat what;
	return stat(path, &what) == 0 && S_ISREG(what.st_mode) ? fopen(path, "r") : NULL;
}

static FILE *open_source(struct report *report, const char *path)
{
	FILE *file = open_plain(path);
	for (size_t i = 0; !file && i < report->options.source_paths; i++) {
		/* The whole path below the folder, then ever shorter tails of it. */
		for (const char *tail = path; tail && !file; tail = strchr(tail + 1, '/')) {
			char *name = NULL;
			if (asprintf(&name, "%s/%s", report->options.source_path[i], *tail == '/' ? tail + 1 : tail) <
			    0)
				return NULL;
			file = open_plain(name);
			free(name);
		}
	}
	return file;
}

void text_source_line(struct report *report, const struct symbol_frame *frame)
{
	if (!frame || !frame->file || frame->line <= 0)
		return;
	FILE *file = open_source(report, frame->file);
	if (!file)
		return;
	char *line = NULL;
	size_t room = 0;
	int number = 0;
	while (number < frame->line && getline(&line, &room, file) > 0)
		number++;
	if (number == frame->line && line) {
		line[strcspn(line, "\n")] = 0;
		fprintf(report->out, "    |\n%4d| %s\n    |\n", number, line);
	}
	free(line);
	fclose(file);
}

/* What the measured value and the limit of a code count. */
static const char *measured(uint32_t code, uint64_t value)
{
	char *out = buffer();
	switch (code) {
	case 3:
	case 301:
	case 604:
		return text_bytes((double)value);
	case 501:
		snprintf(out, 48, "%s frames", text_count(value));
		return out;
	case 502:
	case 510:
	case 520:
		snprintf(out, 48, "%s %%", text_count(value));
		return out;
	default:
		return text_count(value);
	}
}

void text_violation_message(char *out, size_t bytes, struct report *report, const struct model_violation *v)
{
	const struct code_info *info = codes_find(v->code);
	char where[400] = "", limit[128] = "";
	const struct model_site *site =
		v->site && v->site < report->model.site_count ? &report->model.sites[v->site] : NULL;
	if (site && (site->record->node || site->record->class_bytes)) {
		char name[300];
		text_site_name(name, sizeof name, report, site);
		snprintf(where, sizeof where, ": %s", name);
	}
	if (v->limit)
		snprintf(limit, sizeof limit, " (%s, limit %s)", measured(v->code, v->value),
			 measured(v->code, v->limit));
	char of[96] = "";
	const struct model *model = &report->model;
	if (v->tag && v->tag < model->region_count)
		snprintf(of, sizeof of, "%s '%s'", v->code == 801 ? ", region" : " of region",
			 model->regions[v->tag].record->name);
	else if (v->role)
		snprintf(of, sizeof of, " of role %s", text_role(v->role));
	snprintf(out, bytes, "%s%s%s%s%s", info ? info->sentence : "unknown code",
		 v->never_died ? " and was never freed" : "", of, where, limit);
}

void text_losses(struct report *report)
{
	bool any = false;
	for (int i = 0; i < TRACE_LOSS_COUNT; i++) {
		uint64_t count = report->reader.header.losses[i];
		if (!count)
			continue;
		fprintf(report->out, "%s%s %s\n", any ? "              " : "  not whole   ", text_count(count),
			codes_loss_text((enum trace_loss)i));
		any = true;
	}
	if (report->reader.damage[0])
		fprintf(report->out, "  damage      %s\n", report->reader.damage);
}

static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *at = data;
	while (bytes--)
		hash = (hash ^ *at++) * 0x100000001b3u; /* FNV-1a */
	return hash;
}

static uint64_t mix_path(uint64_t hash, struct report *report, uint32_t node)
{
	for (; node; node = symbols_parent(report->symbols, node)) {
		const struct symbol_place *place = symbols_of_node(report->symbols, node);
		const struct symbol_frame *frame = &place->frame[place->count - 1];
		const char *module = frame->build_id ? frame->build_id : frame->module ? frame->module : "";
		hash = mix(hash, module, strlen(module));
		if (frame->module)
			hash = mix(hash, &frame->offset, sizeof frame->offset);
	}
	return hash;
}

void text_fingerprint(char out[20], struct report *report, const struct model_violation *v)
{
	uint64_t hash = mix(0xcbf29ce484222325u, &v->code, sizeof v->code);
	const struct model_site *site = v->site < report->model.site_count ? &report->model.sites[v->site] : NULL;
	if (site) {
		hash = mix_path(hash, report, site->record->node);
		hash = mix(hash, &site->record->class_bytes, sizeof site->record->class_bytes);
		hash = mix(hash, &site->record->role, sizeof site->record->role);
	}
	if (v->tag && v->tag < report->model.region_count)
		hash = mix(hash, report->model.regions[v->tag].record->name,
			   strlen(report->model.regions[v->tag].record->name));
	if (v->role)
		hash = mix(hash, &v->role, sizeof v->role);
	hash = mix_path(mix(hash, v->never_died ? "n" : "d", 1), report, v->other);
	snprintf(out, 20, "%016llx", (unsigned long long)hash);
}
