/*
 * Chooses where the recording goes and never lets a live one be overwritten; knows it by magic, version and pid. The
 * program's shim makes the file itself (exclusively), this side removes what is in the way and writes only the three
 * fields that say how the program ended.
 */
#define _GNU_SOURCE
#include "tools/fa-run/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/trace/events.h"
#include "core/trace/reader.h"
#include "tools/fa-run/say.h"

#define DEFAULT_TEMPLATE "fa-%e-%p.fatrace"

bool recording_header(int fd, struct trace_header *header)
{
	return pread(fd, header, sizeof *header, 0) == (ssize_t)sizeof *header &&
	       memcmp(header->magic, TRACE_MAGIC, sizeof header->magic) == 0 && header->version == TRACE_VERSION;
}

/* Field 22 of /proc/PID/stat, 0 when the process is gone (or a zombie). */
static uint64_t process_start_ticks(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (bytes <= 0)
		return 0;
	text[bytes] = 0;
	const char *at = strrchr(text, ')'); /* the name in parentheses may hold anything */
	if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
		return 0;
	at += 2;
	for (int field = 3; field < 22 && at; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool is_live(const struct trace_header *header)
{
	uint64_t ticks = process_start_ticks((pid_t)header->pid);
	return header->ended == TRACE_ENDED_OPEN && ticks && (!header->start_ticks || ticks == header->start_ticks);
}

/* Of a process that was killed before its recording was whole: that has everything but its magic. */
static bool is_unfinished(int fd, struct trace_header *header)
{
	static const char none[sizeof header->magic];
	return pread(fd, header, sizeof *header, 0) == (ssize_t)sizeof *header &&
	       memcmp(header->magic, none, sizeof none) == 0 && header->version == TRACE_VERSION &&
	       header->header_bytes == sizeof *header;
}

/* Removes what stands at the path when it is a finished recording, one that was never begun, or an empty file. */
static int clear_path(const char *path)
{
	struct stat file;
	if (lstat(path, &file))
		return 0;
	if (!S_ISREG(file.st_mode)) {
		say("%s is there and no regular file: choose another --output", path);
		return -EEXIST;
	}
	struct trace_header header;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool known = fd >= 0 && (recording_header(fd, &header) || is_unfinished(fd, &header));
	if (fd >= 0)
		close(fd);
	if (known && is_live(&header)) {
		say("%s is the recording of process %" PRIu32 ", which still runs: choose another --output", path,
		    header.pid);
		return -EEXIST;
	}
	if (!known && file.st_size > 0) {
		say("%s is there and no recording: choose another --output", path);
		return -EEXIST;
	}
	unlink(path); /* when that fails, the shim's attempt fails, and is explained */
	return 0;
}

/* The same of the events beside a recording: they belong to the one that was there. */
static int clear_events(const char *recording_path, bool wanted)
{
	char path[OPTIONS_PATH_BYTES + 8];
	struct events_header header;
	struct stat file;
	snprintf(path, sizeof path, "%s.events", recording_path);
	if (lstat(path, &file))
		return 0;
	int fd = S_ISREG(file.st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	bool known = fd >= 0 && pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
		     memcmp(header.magic, EVENTS_MAGIC, sizeof header.magic) == 0;
	if (fd >= 0)
		close(fd);
	if (known || (S_ISREG(file.st_mode) && !file.st_size)) {
		unlink(path);
	} else if (wanted) {
		say("%s is there and no file of events: choose another --output", path);
		return -EEXIST;
	}
	return 0;
}

static int too_long(void)
{
	say("the recording's path is too long: at most %d bytes", OPTIONS_PATH_BYTES - 1);
	return -ENAMETOOLONG;
}

static void folder_of(const char *path, char folder[OPTIONS_PATH_BYTES])
{
	strcpy(folder, path);
	char *slash = strrchr(folder, '/');
	slash[slash == folder] = 0; /* the root keeps its slash */
}

static void check_folder(struct recording *recording)
{
	char folder[OPTIONS_PATH_BYTES];
	folder_of(recording->path, folder);
	if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0)
		return;
	say("cannot record into %s: %s; the program runs unrecorded", folder, strerror(errno));
	recording->unwritable = true;
}

int recording_choose(struct recording *recording, const char *template_text, const char *exe_name, pid_t pid,
		     bool events)
{
	char name[OPTIONS_PATH_BYTES], folder[OPTIONS_PATH_BYTES] = "";
	bool is_default = !template_text[0];
	*recording = (struct recording){.pid = pid};
	if (options_expand(name, sizeof name, is_default ? DEFAULT_TEMPLATE : template_text, exe_name, (uint32_t)pid))
		return too_long();
	if (name[0] != '/' && !getcwd(folder, sizeof folder)) {
		say("the current folder: %s", strerror(errno));
		return -ENAMETOOLONG;
	}
	const char *separator = name[0] == '/' ? "" : "/";
	for (unsigned attempt = 0;; attempt++) {
		char number[16] = "";
		struct stat file;
		if (attempt)
			snprintf(number, sizeof number, ".%u", attempt);
		if (snprintf(recording->path, sizeof recording->path, "%s%s%s%s", folder, separator, name, number) >=
		    (int)sizeof recording->path)
			return too_long();
		if (!is_default || lstat(recording->path, &file))
			break;
	}
	check_folder(recording);
	int error = is_default ? 0 : clear_path(recording->path);
	return error ? error : clear_events(recording->path, events);
}

/* The `n`th beside the first. */
static void path_of(const struct recording *recording, unsigned n, char path[sizeof recording->latest])
{
	snprintf(path, sizeof recording->latest, n ? "%s.%u" : "%s", recording->path, n);
}

/* The descriptor of the recording at `path` when it is the program's own; -EAGAIN: not begun yet, -ESRCH: another's. */
static int open_ours(const struct recording *recording, const char *path, int flags, struct trace_header *header)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	bool begun = recording_header(fd, header);
	if (begun && header->pid == (uint32_t)recording->pid)
		return fd;
	close(fd);
	return begun ? -ESRCH : -EAGAIN;
}

/* Another start may have taken the path meanwhile: the program's own is the first of those beside it then. */
bool recording_ready(struct recording *recording)
{
	struct trace_header header;
	for (unsigned n = 0; !recording->ready; n++) {
		path_of(recording, n, recording->latest);
		int fd = open_ours(recording, recording->latest, O_RDONLY, &header);
		if (fd < 0 && fd != -ESRCH && fd != -EAGAIN)
			break;
		if (fd < 0)
			continue;
		close(fd);
		recording->ready = true;
		recording->next = n + 1;
	}
	return recording->ready;
}

/* 1: the library is mapped in the process, 0: it is not, -1: cannot be told. */
static int is_mapped(pid_t pid, const char *library)
{
	char path[64], *line = NULL;
	size_t capacity = 0;
	int found = 0;
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		return -1;
	while (!found && getline(&line, &capacity, maps) > 0)
		found = strstr(line, library) != NULL;
	free(line);
	fclose(maps);
	return found;
}

/* Tries it by a file of another name: the program may still make its own. */
static bool takes_files(const char *folder)
{
	char path[OPTIONS_PATH_BYTES + 16];
	snprintf(path, sizeof path, "%s/.fa-run-XXXXXX", folder);
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return false;
	unlink(path);
	close(fd);
	return true;
}

/* Why a file that the shim should have made is not there. */
static const char *write_obstacle(const struct recording *recording)
{
	struct rlimit limit;
	struct statvfs disk;
	struct stat file;
	char folder[OPTIONS_PATH_BYTES];
	folder_of(recording->path, folder);
	if (stat(folder, &file))
		return "the folder is not there";
	if (lstat(recording->path, &file) && errno != ENOENT)
		return strerror(errno);
	bool known = statvfs(folder, &disk) == 0;
	if (known && (disk.f_flag & ST_RDONLY))
		return "the file system is read-only";
	if (known && disk.f_blocks && (uint64_t)disk.f_bavail * disk.f_frsize < 1 << 20)
		return "the disk is full";
	if (!takes_files(folder))
		return "the file system takes no new files there";
	if (prlimit(0, RLIMIT_FSIZE, NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur < TRACE_MAX_BYTES)
		return "the file size limit (ulimit -f) is too low";
	if (lstat(recording->path, &file) == 0)
		return "another file appeared there";
	return NULL;
}

/* core/region/place.c asks for 96 MiB beside what the program has mapped at its start. */
#define SPACE_MIN (160ul << 20)
static bool space_is_small(void)
{
	struct rlimit space, data;
	return prlimit(0, RLIMIT_AS, NULL, &space) == 0 && prlimit(0, RLIMIT_DATA, NULL, &data) == 0 &&
	       (space.rlim_cur < SPACE_MIN || data.rlim_cur < SPACE_MIN);
}

void recording_explain(const struct recording *recording, const char *library, bool running, int wait_status)
{
	if (recording->unwritable)
		return;
	const char *obstacle = write_obstacle(recording);
	int mapped = running ? is_mapped(recording->pid, library) : -1;
	if (mapped != 0 && obstacle)
		say("no recording: %s could not be written: %s", recording->path, obstacle);
	else if (mapped == 0)
		say("no recording: ld.so did not load %s into the program (does a wrapper clear LD_PRELOAD?)", library);
	else if (space_is_small())
		say("no recording: the address space or data limit (ulimit -v, -d) is too low for %s beside the "
		    "program",
		    library);
	else if (mapped == 1)
		say("no recording: %s is loaded but has not begun %s", library, recording->path);
	else if (!running && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == EXIT_NOT_FOUND)
		say("no recording: the program ended (status 127) before %s could start, as when ld.so misses a "
		    "library",
		    library);
	else
		say("no recording: the program ended before %s began %s; ld.so may have refused to preload it", library,
		    recording->path);
}

/* What the writer has not taken of the file (trace_keep_room) is a hole at its end. */
static void cut_hole(int fd, const struct trace_header *header)
{
	struct stat file;
	off_t used = (off_t)header->file_pages * TRACE_PAGE_BYTES, hole = lseek(fd, used, SEEK_HOLE);
	if (header->file_pages > TRACE_TABLE_PAGES && hole >= used && !fstat(fd, &file) && hole < file.st_size &&
	    ftruncate(fd, hole)) {
		/* it stays: harmless */
	}
}

static void note_end(const char *path, int fd, const struct trace_header *header, uint64_t end_ns, enum trace_ended how,
		     int32_t value)
{
	uint32_t ended = how;
	cut_hole(fd, header);
	if (pwrite(fd, &end_ns, sizeof end_ns, offsetof(struct trace_header, end_ns)) != sizeof end_ns ||
	    pwrite(fd, &value, sizeof value, offsetof(struct trace_header, end_value)) != sizeof value ||
	    pwrite(fd, &ended, sizeof ended, offsetof(struct trace_header, ended)) != sizeof ended)
		say("the recording's end could not be noted: %s: %s", path, strerror(errno));
}

void recording_advance(struct recording *recording)
{
	struct trace_header newer = {0}, older = {0};
	char path[sizeof recording->latest];
	for (; recording->ready; recording->next++) {
		path_of(recording, recording->next, path);
		int fd = open_ours(recording, path, O_RDONLY, &newer);
		if (fd < 0 && fd != -ESRCH)
			return;
		if (fd < 0)
			continue;
		close(fd);
		fd = open_ours(recording, recording->latest, O_RDWR, &older);
		if (fd >= 0) {
			note_end(recording->latest, fd, &older, newer.start_ns, TRACE_ENDED_EXIT, -1);
			close(fd);
		}
		strcpy(recording->latest, path);
	}
}

void recording_finish(struct recording *recording, int wait_status)
{
	struct trace_header header = {0};
	recording_advance(recording);
	int fd = recording->ready ? open_ours(recording, recording->latest, O_RDWR, &header) : -ENOENT;
	if (fd < 0)
		return;
	note_end(recording->latest, fd, &header,
		 header.end_ns ? header.end_ns : reader_now_ns(), /* the shim's own time is closer */
		 WIFSIGNALED(wait_status) ? TRACE_ENDED_SIGNAL : TRACE_ENDED_EXIT,
		 WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
	close(fd);
}
