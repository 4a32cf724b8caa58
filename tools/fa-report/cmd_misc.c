/* `fa-report explain`, `list` and `dump`. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/registry/codes.h"
#include "tools/fa-report/main.h"
#include "tools/fa-report/report.h"

int cmd_explain(FILE *out, const char *text, bool json)
{
	const struct code_info *info = report_code(text);
	if (!info) {
		fprintf(stderr, "fa-report: no code %s; codes are FA001 to FA902, `fa-report explain all` lists them\n", text);
		return 2;
	}
	if (json) {
		json_t *object = json_pack("{s:o,s:s,s:s,s:s,s:s}", "code", json_sprintf("FA%03u", info->number), "name", info->name,
		                           "level", text_level(info->level), "message", info->sentence, "help", info->help);
		json_dumpf(object, out, JSON_INDENT(2));
		json_decref(object);
		fputc('\n', out);
		return 0;
	}
	fprintf(out, "FA%03u  %s\n\n  %s.\n\n  Level: %s%s.\n  Help: %s.\n", info->number, info->name, info->sentence,
	        text_level(info->level),
	        info->by_lifetime_rule ? "; an error where the program or its policy asked for frame memory" : "", info->help);
	return 0;
}

static int is_recording(const struct dirent *entry)
{
	return strstr(entry->d_name, ".fatrace") != NULL;
}

/* One line, or one object of `list`. */
static void list_one(FILE *out, const char *path, json_t *list)
{
	struct reader reader;
	struct model model;
	if (reader_open(&reader, path)) {
		if (!list)
			fprintf(out, "%s\n", reader.damage);
		return;
	}
	if (model_build(&model, &reader) == 0) {
		time_t seconds = (time_t)(reader.header.start_unix_ns / 1000000000u);
		char when[40];
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime(&seconds));
		uint64_t frames = model.frames_count ? model.frames[0].count : 0;
		if (list)
			json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I,s:I}", "path", path, "exe", reader.header.exe, "ended",
			                                      model.ended, "allocs", (json_int_t)model.allocs, "frames", (json_int_t)frames));
		else
			fprintf(out, "%s  %-7s  %12s allocs  %8s frames  %s  %s\n", when, model.ended, text_count(model.allocs),
			        text_count(frames), path, reader.header.exe);
	}
	model_free(&model);
	reader_close(&reader);
}

int cmd_list(FILE *out, const char *place, bool json)
{
	struct stat what;
	if (stat(place, &what)) {
		fprintf(stderr, "fa-report: %s: %s\n", place, strerror(errno));
		return 2;
	}
	json_t *list = json_array();
	int count = 0;
	if (!S_ISDIR(what.st_mode)) {
		count = 1;
		list_one(out, place, json ? list : NULL);
	} else {
		struct dirent **entries = NULL;
		count = scandir(place, &entries, is_recording, versionsort);
		for (int i = 0; i < count; i++) {
			char *path = NULL;
			if (asprintf(&path, "%s/%s", place, entries[i]->d_name) < 0)
				abort();
			list_one(out, path, json ? list : NULL);
			free(path);
			free(entries[i]);
		}
		free(entries);
	}
	if (json) {
		json_dumpf(list, out, JSON_INDENT(1));
		fputc('\n', out);
	} else if (count <= 0) {
		fprintf(out, "no recordings in %s\n", place);
	}
	json_decref(list);
	return 0;
}

void cmd_dump(struct report *report)
{
	static const char *const kinds[TRACE_KIND_COUNT] = {"none",  "module", "node",         "site",      "group label", "group",    "thread",
	                                                    "frame", "merged frame", "frame histogram", "lifetime",  "violation",   "marker"};
	const struct trace_header *h = &report->reader.header;
	fprintf(report->out, "version %u, pid %u, shim %s, mode %s, stacks %s (asked %s)\n", h->version, h->pid, h->build_version,
	        text_mode(h->mode), text_stacks(h->stacks), text_stacks(h->stacks_asked));
	fprintf(report->out, "options %s\n", h->options);
	fprintf(report->out, "chunks %u, pages %u, segments leased %llu, lifetimes clamped %llu\n", h->chunk_count, h->file_pages,
	        (unsigned long long)h->segments_leased, (unsigned long long)h->clamped_lifetimes);
	fprintf(report->out, "call paths: %llu unwound, %llu from the cache, %llu re-verified, %llu wrong\n",
	        (unsigned long long)h->stack_captures, (unsigned long long)h->stack_hits, (unsigned long long)h->stack_checks,
	        (unsigned long long)h->stack_wrong);
	for (size_t i = 0; i < report->reader.array_count; i++) {
		const struct reader_array *array = &report->reader.arrays[i];
		fprintf(report->out, "%-16s owner %-4u %8u records of %u bytes\n", kinds[array->kind], array->owner, array->count,
		        array->record_bytes);
	}
	const struct reader_array *modules = reader_array(&report->reader, TRACE_KIND_MODULE, 0);
	for (uint32_t i = 0; i < modules->count; i++) {
		const struct trace_module *m = reader_at(modules, i);
		fprintf(report->out, "module %u: %s at 0x%llx%s\n", i, m->path, (unsigned long long)m->base, m->unloaded_ns ? " (unloaded)" : "");
	}
	for (uint32_t i = 0; i < report->model.site_count; i++) {
		const struct model_site *s = &report->model.sites[i];
		fprintf(report->out, "site %u: node %u, %llu allocs, %llu frees\n", i, s->record->node, (unsigned long long)s->allocs,
		        (unsigned long long)s->frees);
	}
	text_losses(report);
}
