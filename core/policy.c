/* Order decides where the first match wins and where the last value counts: options' own markers and roles come first,
   then the presets, then the policy file; the file's thresholds and levels yield to options given by name. */
#define _GNU_SOURCE
#include "core/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/base.h"
#include "core/registry/codes.h"
#include "core/registry/presets.h"
#include "core/runtime.h"
#include "core/trace/writer.h"

struct policy policy_in_force;
static bool marks_frames;

static void say_line(void *context, const char *line)
{
	(void)context;
	base_say(line);
}

static void add_markers(const struct options_list *list, enum policy_marker_kind kind)
{
	struct policy *policy = &policy_in_force;
	for (uint32_t i = 0; i < list->count && policy->marker_count < POLICY_MARKERS_MAX; i++)
		if (!(kind == POLICY_FRAME && base_text_equal(list->item[i], "none")))
			policy->marker[policy->marker_count++] =
				(struct policy_marker){.kind = kind, .function = list->item[i]};
}

static void add_roles(const struct options_list *list)
{
	static const struct {
		const char *word;
		enum trace_role role;
	} words[] = {{"frame=", TRACE_ROLE_FRAME},
		     {"worker=", TRACE_ROLE_WORKER},
		     {"async=", TRACE_ROLE_ASYNC},
		     {"io=", TRACE_ROLE_IO}};
	struct policy *policy = &policy_in_force;
	for (uint32_t i = 0; i < list->count; i++)
		for (size_t w = 0; w < sizeof words / sizeof words[0] && policy->role_count < POLICY_ROLES_MAX; w++) {
			size_t n = 0;
			while (words[w].word[n] && words[w].word[n] == list->item[i][n])
				n++;
			if (!words[w].word[n])
				policy->role[policy->role_count++] = (struct policy_role){
					.role = words[w].role, .test = POLICY_ROLE_NAME, .pattern = list->item[i] + n};
		}
}

static void read_preset(const char *name)
{
	const struct preset *preset = preset_find(name);
	char line[160];
	if (!preset) {
		size_t at = base_text_copy(line, sizeof line, "no preset '");
		at += base_text_copy(line + at, sizeof line - at, name);
		base_text_copy(line + at, sizeof line - at, "': fa-run --list-presets shows them all");
		base_say(line);
		return;
	}
	struct policy_source source = {preset->name, preset->text, preset->bytes, true};
	policy_read(&policy_in_force, &source, say_line, NULL);
}

static void read_file(const char *path)
{
	struct stat status;
	int fd = base_open(path, O_RDONLY | O_CLOEXEC, 0);
	void *text = MAP_FAILED;
	if (fd >= 0 && !fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size)
		text = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	bool empty = fd >= 0 && text == MAP_FAILED && S_ISREG(status.st_mode) && !status.st_size;
	if (fd >= 0)
		base_close(fd);
	if (text == MAP_FAILED) {
		char line[OPTIONS_PATH_BYTES + 64];
		size_t at = base_text_copy(line, sizeof line, path);
		base_text_copy(line + at, sizeof line - at,
			       ": the policy file cannot be read; the program runs without it");
		if (!empty)
			base_say(line);
		return;
	}
	struct policy_source source = {path, text, (size_t)status.st_size, false};
	policy_read(&policy_in_force, &source, say_line, NULL);
	munmap(text, (size_t)status.st_size);
}

static bool any_frame_marker(void)
{
	for (uint32_t i = 0; i < policy_in_force.marker_count; i++)
		if (policy_in_force.marker[i].kind <= POLICY_TASK)
			return true;
	return false;
}

void policy_load(void)
{
	const struct options *options = &runtime.options;
	const char *named = runtime_environment("FA_POLICY");
	policy_in_force.about = policy_in_force.tried = ""; /* all else is zero: policy_init would take its pages */
	add_markers(&options->frame, POLICY_FRAME);
	add_markers(&options->frame_scope, POLICY_FRAME_SCOPE);
	add_markers(&options->task, POLICY_TASK);
	add_markers(&options->await, POLICY_AWAIT);
	add_roles(&options->role);
	for (uint32_t i = 0; i < options->preset.count; i++)
		read_preset(options->preset.item[i]);
	if (options->policy[0])
		read_file(options->policy);
	else if (named && named[0])
		read_file(named);
	bool none = false;
	for (uint32_t i = 0; i < options->frame.count; i++)
		none |= base_text_equal(options->frame.item[i], "none");
	marks_frames = none || any_frame_marker();
	if (!marks_frames && !policy_in_force.automatic_given)
		read_preset("automatic");
}

void policy_begin_recording(void)
{
	for (uint32_t i = 0; i < policy_in_force.level_count; i++) {
		int place = codes_place(policy_in_force.level[i].code);
		if (place >= 0)
			trace_header->code_level[place] = (uint8_t)(policy_in_force.level[i].level + 1);
	}
	for (uint32_t i = 0; i < policy_in_force.suppression_count; i++) {
		const struct policy_suppression *suppression = &policy_in_force.suppression[i];
		struct trace_suppression record = {.code = suppression->code};
		base_text_copy(record.name, sizeof record.name, suppression->name);
		base_text_copy(record.path, sizeof record.path, suppression->path);
		base_text_copy(record.why, sizeof record.why, suppression->why);
		trace_append(&trace_suppressions, &record, NULL);
	}
}

bool policy_marks_frames(void)
{
	return marks_frames;
}

bool policy_names_frame_threads(void)
{
	for (uint32_t i = 0; i < policy_in_force.role_count; i++)
		if (policy_in_force.role[i].role == TRACE_ROLE_FRAME)
			return true;
	return false;
}
