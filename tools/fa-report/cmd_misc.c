/* `fa-report explain` and `list`: the commands that need no recording. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/registry/codes.h"
#include "tools/fa-report/report.h"

int cmd_explain(FILE *out, const char *text, bool json)
{
	const struct code_info *info = codes_named(text);
	if (!info) {
		fprintf(stderr, "fa-report: no code %s; codes are FA001 to FA902, `fa-report explain all` lists them\n",
			text);
		return 2;
	}
	if (json) {
		json_t *object = json_pack("{s:o,s:s,s:s,s:s,s:s}", "code", json_sprintf("FA%03u", info->number),
					   "name", info->name, "level", text_level(info->level), "message",
					   info->sentence, "help", info->help);
		json_dumpf(object, out, JSON_INDENT(2));
		json_decref(object);
		fputc('\n', out);
		return 0;
	}
	fprintf(out, "FA%03u  %s\n\n  %s.\n\n  Level: %s%s.\n  Help: %s.\n", info->number, info->name, info->sentence,
		text_level(info->level),
		info->by_lifetime_rule ? "; an error where the program or its policy asked for frame memory" : "",
		info->help);
	return 0;
}

/* NAME.fatrace, or NAME.fatrace.N; not what stands beside it. */
static bool is_named_as_recording(const char *name)
{
	static const char ending[] = ".fatrace";
	const char *last = NULL;
	while ((name = strstr(name, ending)))
		last = name += sizeof ending - 1;
	return last && (!*last || (*last == '.' && last[1] && last[1 + strspn(last + 1, "0123456789")] == 0));
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
			json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I,s:I}", "path", path, "exe",
							      reader.header.exe, "ended", model.ended, "allocs",
							      (json_int_t)model.allocs, "frames", (json_int_t)frames));
		else
			fprintf(out, "%s  %-7s  %12s allocs  %8s frames  %s  %s\n", when, model.ended,
				text_count(model.allocs), text_count(frames), path, reader.header.exe);
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
		int all = scandir(place, &entries, NULL, versionsort);
		for (int i = 0; i < all; i++) {
			char *path = NULL;
			if (asprintf(&path, "%s/%s", place, entries[i]->d_name) < 0)
				abort();
			if (is_named_as_recording(entries[i]->d_name) || reader_is_recording(path)) {
				list_one(out, path, json ? list : NULL);
				count++;
			}
			free(path);
			free(entries[i]);
		}
		free(entries);
	}
	if (json) {
		json_dumpf(list, out, JSON_INDENT(1));
		fputc('\n', out);
	} else if (!count) {
		fprintf(out, "no recordings in %s\n", place);
	}
	json_decref(list);
	return 0;
}
