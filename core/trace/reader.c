/* Validation and copying. The file may be written to while it is read: everything is copied once and judged as copied. */
#define _GNU_SOURCE
#include "core/trace/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/trace/events.h"

enum { MAGIC_BYTES = 8 };
static_assert(sizeof TRACE_MAGIC == MAGIC_BYTES + 1 && sizeof EVENTS_MAGIC == MAGIC_BYTES + 1, "magic");

static const uint32_t record_sizes[TRACE_KIND_COUNT] = {
	[TRACE_KIND_MODULE] = sizeof(struct trace_module),
	[TRACE_KIND_NODE] = sizeof(struct trace_node),
	[TRACE_KIND_SITE] = sizeof(struct trace_site),
	[TRACE_KIND_GROUP_LABEL] = sizeof(struct trace_group_label),
	[TRACE_KIND_GROUP] = sizeof(struct trace_group),
	[TRACE_KIND_THREAD] = sizeof(struct trace_thread),
	[TRACE_KIND_FRAME] = sizeof(struct trace_frame),
	[TRACE_KIND_FRAME_MERGED] = sizeof(struct trace_frame_merged),
	[TRACE_KIND_FRAME_HIST] = sizeof(struct trace_frame_hist),
	[TRACE_KIND_LIFETIME] = sizeof(struct trace_lifetime),
	[TRACE_KIND_VIOLATION] = sizeof(struct trace_violation),
	[TRACE_KIND_MARKER] = sizeof(struct trace_marker),
	[TRACE_KIND_TAG] = sizeof(struct trace_tag),
	[TRACE_KIND_TASK_TYPE] = sizeof(struct trace_task_type),
	[TRACE_KIND_TASK_COUNT] = sizeof(struct trace_task_count),
	[TRACE_KIND_TALLY] = sizeof(struct trace_tally),
	[TRACE_KIND_SUPPRESSION] = sizeof(struct trace_suppression),
};

/* The whole file; it is bounded by TRACE_MAX_BYTES. */
static int load(const char *path, uint8_t **data, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never waits for the other end of a pipe */
	if (fd < 0)
		return -errno;
	struct stat stat;
	int error = fstat(fd, &stat) ? -errno : S_ISDIR(stat.st_mode) ? -EISDIR : !S_ISREG(stat.st_mode) ? -EINVAL : 0;
	size_t room = !error && stat.st_size < (off_t)TRACE_MAX_BYTES ? (size_t)stat.st_size : TRACE_MAX_BYTES;
	*bytes = 0;
	*data = error ? NULL : malloc(room + 1);
	if (!error && !*data)
		error = -ENOMEM;
	while (!error && *bytes < room) {
		ssize_t got = read(fd, *data + *bytes, room - *bytes);
		if (got < 0 && errno != EINTR)
			error = -errno;
		if (got == 0)
			break;
		if (got > 0)
			*bytes += (size_t)got;
	}
	close(fd);
	if (error)
		free(*data);
	return error;
}

static void terminate(char *text, size_t bytes)
{
	text[bytes - 1] = 0;
}

static struct reader_array *array_for(struct reader *reader, uint32_t kind, uint32_t owner)
{
	for (size_t i = 0; i < reader->array_count; i++)
		if (reader->arrays[i].kind == kind && reader->arrays[i].owner == owner)
			return &reader->arrays[i];
	struct reader_array *grown = realloc(reader->arrays, (reader->array_count + 1) * sizeof *grown);
	if (!grown)
		return NULL;
	reader->arrays = grown;
	grown[reader->array_count] =
		(struct reader_array){.kind = kind, .owner = owner, .record_bytes = record_sizes[kind]};
	return &grown[reader->array_count++];
}

/* Whether the entry makes sense within `bytes` of file; *whole is how many of its records are there. */
static bool chunk_valid(const struct trace_chunk *chunk, size_t bytes, uint32_t *whole)
{
	if (chunk->kind == TRACE_KIND_NONE || chunk->kind >= TRACE_KIND_COUNT ||
	    chunk->record_bytes != record_sizes[chunk->kind] || chunk->used > chunk->capacity ||
	    (uint64_t)chunk->capacity * chunk->record_bytes > (uint64_t)chunk->pages * TRACE_PAGE_BYTES ||
	    ((uint64_t)chunk->first_index + chunk->capacity) * chunk->record_bytes > TRACE_MAX_BYTES ||
	    chunk->pages > TRACE_MAX_BYTES / TRACE_PAGE_BYTES)
		return false;
	uint64_t start = (uint64_t)chunk->first_page * TRACE_PAGE_BYTES;
	uint64_t there = start < bytes ? (bytes - start) / chunk->record_bytes : 0;
	*whole = there < chunk->used ? (uint32_t)there : chunk->used;
	return true;
}

static int add_chunk(struct reader *reader, const struct trace_chunk *chunk, const uint8_t *data, uint32_t whole)
{
	struct reader_array *array = array_for(reader, chunk->kind, chunk->owner);
	if (!array)
		return -ENOMEM;
	uint32_t end = chunk->first_index + whole;
	if (whole && end > array->count) {
		char *grown = realloc(array->records, (size_t)end * array->record_bytes);
		if (!grown)
			return -ENOMEM;
		memset(grown + (size_t)array->count * array->record_bytes, 0,
		       (size_t)(end - array->count) * array->record_bytes);
		array->records = grown;
		array->count = end;
	}
	if (whole)
		memcpy((char *)array->records + (size_t)chunk->first_index * array->record_bytes,
		       data + (size_t)chunk->first_page * TRACE_PAGE_BYTES, (size_t)whole * array->record_bytes);
	return 0;
}

uint64_t reader_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *reader_argument(const struct reader *reader, const char *before)
{
	const struct trace_header *header = &reader->header;
	size_t end = header->args_bytes, at = before ? (size_t)(before - header->args) + strlen(before) + 1 : 0;
	if (!end || end > sizeof header->args)
		for (end = sizeof header->args; end && !header->args[end - 1];)
			end--;
	return at < end ? header->args + at : NULL;
}

static void terminate_strings(struct reader *reader)
{
	struct trace_header *header = &reader->header;
	terminate(header->exe, sizeof header->exe);
	terminate(header->args, sizeof header->args);
	terminate(header->options, sizeof header->options);
	terminate(header->build_version, sizeof header->build_version);
	for (size_t i = 0; i < reader->array_count; i++) {
		struct reader_array *array = &reader->arrays[i];
		for (uint32_t r = 0; r < array->count; r++) {
			void *record = (char *)array->records + (size_t)r * array->record_bytes;
			if (array->kind == TRACE_KIND_MODULE)
				terminate(((struct trace_module *)record)->path,
					  sizeof((struct trace_module *)record)->path);
			else if (array->kind == TRACE_KIND_THREAD)
				terminate(((struct trace_thread *)record)->name,
					  sizeof((struct trace_thread *)record)->name);
			else if (array->kind == TRACE_KIND_TAG)
				terminate(((struct trace_tag *)record)->name, sizeof((struct trace_tag *)record)->name);
			else if (array->kind == TRACE_KIND_TASK_TYPE)
				terminate(((struct trace_task_type *)record)->name,
					  sizeof((struct trace_task_type *)record)->name);
			else if (array->kind == TRACE_KIND_MARKER) {
				struct trace_marker *marker = record;
				terminate(marker->name, sizeof marker->name);
				terminate(marker->reason, sizeof marker->reason);
			} else if (array->kind == TRACE_KIND_SUPPRESSION) {
				struct trace_suppression *suppression = record;
				terminate(suppression->name, sizeof suppression->name);
				terminate(suppression->path, sizeof suppression->path);
				terminate(suppression->why, sizeof suppression->why);
			}
		}
	}
}

/* Adds what the slots have counted for themselves to the violations and to the lifetimes of their sites. */
static void add_tallies(struct reader *reader)
{
	const struct reader_array *tallies = reader_array(reader, TRACE_KIND_TALLY, 0);
	const struct reader_array *violations = reader_array(reader, TRACE_KIND_VIOLATION, 0);
	const struct reader_array *sites = reader_array(reader, TRACE_KIND_SITE, 0);
	const struct reader_array *lifetimes = reader_array(reader, TRACE_KIND_LIFETIME, 0);
	for (uint32_t i = 0; i < tallies->count; i++) {
		const struct trace_tally *tally = reader_at(tallies, i);
		if (tally->violation >= violations->count)
			continue;
		struct trace_violation *violation = (struct trace_violation *)violations->records + tally->violation;
		violation->count += tally->count;
		violation->bytes += tally->bytes;
		if (tally->last_frame > violation->last_frame)
			violation->last_frame = tally->last_frame;
		if (tally->worst_lifetime_frames > violation->worst_lifetime_frames)
			violation->worst_lifetime_frames = tally->worst_lifetime_frames;
		const struct trace_site *site =
			violation->site < sites->count ? reader_at(sites, violation->site) : NULL;
		if (!site || !site->lifetime || site->lifetime > lifetimes->count)
			continue;
		struct trace_lifetime *lifetime = (struct trace_lifetime *)lifetimes->records + site->lifetime - 1;
		for (uint32_t b = 0; b < TRACE_LIFETIME_BUCKETS; b++)
			lifetime->bucket[b] += tally->lifetime[b];
		if (tally->worst_lifetime_frames > lifetime->max)
			lifetime->max = tally->worst_lifetime_frames;
	}
}

/* And what each thread has told of for itself to the losses. */
static void add_losses(struct reader *reader)
{
	const struct reader_array *threads = reader_array(reader, TRACE_KIND_THREAD, 0);
	for (uint32_t i = 0; i < threads->count; i++)
		reader->header.losses[TRACE_LOSS_FRAMES_MERGED] +=
			((const struct trace_thread *)reader_at(threads, i))->frames_merged;
}

static bool begins_with(const char *path, const char magic[MAGIC_BYTES])
{
	char begin[MAGIC_BYTES];
	struct stat what;
	FILE *file = stat(path, &what) || !S_ISREG(what.st_mode) ? NULL : fopen(path, "r");
	bool does = file && fread(begin, sizeof begin, 1, file) == 1 && !memcmp(begin, magic, sizeof begin);
	if (file)
		fclose(file);
	return does;
}

bool reader_is_recording(const char *path)
{
	return begins_with(path, TRACE_MAGIC);
}

bool reader_is_events(const char *path)
{
	return begins_with(path, EVENTS_MAGIC);
}

int reader_open(struct reader *reader, const char *path)
{
	*reader = (struct reader){0};
	uint8_t *data = NULL;
	size_t bytes = 0;
	int error = load(path, &data, &bytes);
	if (error) {
		snprintf(reader->damage, sizeof reader->damage, "%s: %s", path,
			 error == -EINVAL ? "not a recording (no plain file)" : strerror(-error));
		return error;
	}
	size_t table_end = TRACE_PAGE_BYTES * (1 + TRACE_TABLE_PAGES);
	bool begins = bytes >= MAGIC_BYTES && !memcmp(data, TRACE_MAGIC, MAGIC_BYTES);
	if (bytes < sizeof reader->header || !begins) {
		snprintf(reader->damage, sizeof reader->damage, "%s: %s", path,
			 begins ? "cut within its header: nothing can be read"
				: "not a recording (it does not begin with FATRACE)");
		free(data);
		return -EINVAL;
	}
	memcpy(&reader->header, data, sizeof reader->header);
	if (reader->header.version != TRACE_VERSION) {
		snprintf(reader->damage, sizeof reader->damage,
			 "%s: recording of version %u; this fa-report reads version %u", path, reader->header.version,
			 TRACE_VERSION);
		free(data);
		return -EPROTO;
	}
	uint32_t wanted = reader->header.chunk_count, bad = 0;
	uint64_t records_missing = 0;
	uint32_t chunks = wanted < TRACE_CHUNKS_MAX ? wanted : TRACE_CHUNKS_MAX;
	if (bytes < table_end) {
		chunks = bytes > TRACE_PAGE_BYTES ? (uint32_t)((bytes - TRACE_PAGE_BYTES) / sizeof(struct trace_chunk))
						  : 0;
		chunks = chunks < wanted ? chunks : wanted;
	}
	bad = wanted - chunks;
	for (uint32_t i = 0; i < chunks && !error; i++) {
		struct trace_chunk chunk;
		memcpy(&chunk, data + TRACE_PAGE_BYTES + i * sizeof chunk, sizeof chunk);
		uint32_t whole;
		if (!chunk.pages || !chunk_valid(&chunk, bytes, &whole)) {
			bad++;
			continue;
		}
		records_missing += chunk.used - whole;
		error = add_chunk(reader, &chunk, data, whole);
	}
	free(data);
	if (error) {
		snprintf(reader->damage, sizeof reader->damage, "%s: %s", path, strerror(-error));
		reader_close(reader);
		return error;
	}
	if (bad || records_missing)
		snprintf(reader->damage, sizeof reader->damage,
			 "%s: cut or damaged: %u of %u chunks unreadable, %llu records missing; the rest is shown",
			 path, bad, wanted, (unsigned long long)records_missing);
	terminate_strings(reader);
	add_tallies(reader);
	add_losses(reader);
	return 0;
}

void reader_close(struct reader *reader)
{
	for (size_t i = 0; i < reader->array_count; i++)
		free(reader->arrays[i].records);
	free(reader->arrays);
	reader->arrays = NULL;
	reader->array_count = 0;
}

const struct reader_array *reader_array(const struct reader *reader, enum trace_kind kind, uint32_t owner)
{
	static const struct reader_array empty;
	for (size_t i = 0; i < reader->array_count; i++)
		if (reader->arrays[i].kind == kind && reader->arrays[i].owner == owner)
			return &reader->arrays[i];
	return &empty;
}
