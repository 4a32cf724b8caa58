/* A recording is made where the options say, beside what must stay there, and begins with what is known of the process. */
#define _GNU_SOURCE
#include "core/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/runtime.h"
#include "core/trace/writer.h"

#define SIBLINGS_MAX 1000u /* names that a recording may have beside the one that was asked for */

static struct {
	char options[TRACE_OPTIONS_BYTES], args[TRACE_ARGS_BYTES];
	size_t args_bytes;
} started_as; /* FA_OPTIONS; arguments, each with its NUL */

/* When a process started, in clock ticks: with its pid, its identity. 0: no such process. */
static uint64_t start_ticks(uint32_t pid)
{
	char text[1024], path[48];
	size_t n = base_text_copy(path, sizeof path, "/proc/");
	base_text_copy(base_text_number(path + n, pid), 8, "/stat");
	int fd = base_open(path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t bytes = fd < 0 ? -1 : base_read(fd, text, sizeof text - 1);
	if (fd >= 0)
		base_close(fd);
	if (bytes <= 0)
		return 0;
	ssize_t at = bytes - 1;
	while (at > 0 && text[at] != ')')
		at--;
	text[bytes] = 0;
	int field = 1; /* fields 3 and on follow the name */
	const char *cursor = text + at;
	while (*cursor && field < 21)
		if (*cursor++ == ' ')
			field++;
	uint64_t value = 0;
	while (*cursor >= '0' && *cursor <= '9')
		value = value * 10 + (uint64_t)(*cursor++ - '0');
	return value;
}

void recording_note_start(void)
{
	const char *given = runtime_environment("FA_OPTIONS");
	base_text_copy(started_as.options, sizeof started_as.options, given ? given : "");
	int count = 0;
	char **arguments = runtime_arguments(&count);
	size_t at = 0;
	for (int i = 0; i < count && arguments[i] && at + 2 < sizeof started_as.args; i++)
		at += base_text_copy(started_as.args + at, sizeof started_as.args - at - 1, arguments[i]) + 1;
	started_as.args_bytes = at;
}

void recording_describe(uint32_t process)
{
	struct trace_header *header = trace_header;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	header->start_unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	header->start_ns = header->last_ns = base_now_ns();
	header->pid = process;
	header->start_ticks = start_ticks(process);
	header->mode = runtime.mode;
	header->stacks = runtime.stacks;
	header->stacks_asked = runtime.options.stacks;
	base_text_copy(header->build_version, sizeof header->build_version, FA_VERSION);
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		header->thresholds[i] = runtime.options.threshold[i];
	ssize_t bytes = readlink("/proc/self/exe", header->exe, sizeof header->exe - 1);
	header->exe[bytes > 0 ? bytes : 0] = 0;
	base_text_copy(header->options, sizeof header->options, started_as.options);
	for (size_t i = 0; i < sizeof header->args; i++)
		header->args[i] = started_as.args[i];
	header->args_bytes = (uint32_t)started_as.args_bytes;
}

static void make_folders(char *path)
{
	for (char *slash = path + 1; *slash; slash++)
		if (*slash == '/') {
			*slash = 0;
			mkdir(path, 0755);
			*slash = '/';
		}
}

static bool default_template(char *out, size_t bytes)
{
	const char *state = runtime_environment("XDG_STATE_HOME"), *home = runtime_environment("HOME");
	size_t at;
	if (state && state[0] == '/')
		at = base_text_copy(out, bytes, state);
	else if (home && home[0] == '/') {
		at = base_text_copy(out, bytes, home);
		at += base_text_copy(out + at, bytes - at, "/.local/state");
	} else {
		return false;
	}
	base_text_copy(out + at, bytes - at, "/framealloc/fa-%e-%p.fatrace");
	return true;
}

/* What stands at `path`, seen from a process that wants to record there. */
struct occupant {
	bool is_there, is_recording;
	bool is_alive; /* its process, this one included */
	uint64_t start_ticks; /* of the process; 0: not known */
};

static struct occupant occupant_of(const char *path, uint32_t process)
{
	struct stat there;
	if (lstat(path, &there))
		return (struct occupant){0};
	struct trace_header header;
	int fd = S_ISREG(there.st_mode) ? base_open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0) : -1;
	ssize_t bytes = fd < 0 ? -1 : base_read(fd, &header, sizeof header);
	if (fd >= 0)
		base_close(fd);
	struct occupant occupant = {.is_there = true, .is_recording = bytes == (ssize_t)sizeof header};
	for (int i = 0; i < 8 && occupant.is_recording; i++)
		occupant.is_recording = header.magic[i] == TRACE_MAGIC[i];
	if (occupant.is_recording) {
		occupant.start_ticks = header.start_ticks;
		occupant.is_alive =
			header.pid == process || (header.start_ticks && start_ticks(header.pid) == header.start_ticks);
	}
	return occupant;
}

/* What must stay: a live recording (an exec in the same process finds its own), what is no recording, and what processes of
   this run have recorded, which began after the one that was started. Children take names that are free. */
static bool may_replace(const struct occupant *occupant, uint32_t process, bool is_first)
{
	return occupant->is_recording && !occupant->is_alive &&
	       (is_first || (occupant->start_ticks && occupant->start_ticks < start_ticks(process)));
}

/* The recordings of an earlier run's children, whose own is replaced. */
static void remove_siblings(char *path, size_t length, uint32_t process)
{
	for (uint32_t n = 1; n < SIBLINGS_MAX; n++) {
		path[length] = '.';
		*base_text_number(path + length + 1, n) = 0;
		struct occupant occupant = occupant_of(path, process);
		if (!occupant.is_there)
			break;
		if (may_replace(&occupant, process, false))
			unlink(path);
	}
	path[length] = 0;
}

int recording_open(uint32_t process, bool is_target)
{
	char template_text[OPTIONS_PATH_BYTES], path[OPTIONS_PATH_BYTES], exe[OPTIONS_PATH_BYTES];
	bool by_default = !runtime.options.output[0];
	if (by_default && !default_template(template_text, sizeof template_text))
		return trace_open(NULL);
	ssize_t bytes = readlink("/proc/self/exe", exe, sizeof exe - 1);
	exe[bytes > 0 ? bytes : 0] = 0;
	if (options_expand(path, sizeof path - 8, by_default ? template_text : runtime.options.output,
			   base_file_name(exe), process))
		return trace_open(NULL);
	if (path[0] != '/') {
		char whole[OPTIONS_PATH_BYTES];
		if (syscall(SYS_getcwd, whole, sizeof whole) <= 0)
			return trace_open(NULL);
		size_t at = base_text_length(whole);
		at += base_text_copy(whole + at, sizeof whole - at, "/");
		base_text_copy(whole + at, sizeof whole - at, path);
		base_text_copy(path, sizeof path - 8, whole);
	}
	if (by_default)
		make_folders(path);
	size_t length = base_text_length(path);
	for (uint32_t n = 0; n < SIBLINGS_MAX; n++) {
		path[length] = n ? '.' : 0;
		if (n)
			*base_text_number(path + length + 1, n) = 0;
		struct occupant occupant = occupant_of(path, process);
		if (!occupant.is_there || (is_target && may_replace(&occupant, process, !n))) {
			if (occupant.is_there)
				unlink(path);
			if (is_target && !n && runtime.options.follow)
				remove_siblings(path, length, process);
			int error = trace_open(path);
			if (error != -EEXIST) /* another child was faster */
				return error;
		}
	}
	return trace_open(NULL);
}
