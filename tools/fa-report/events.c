/* Blocks are read, unpacked and decoded one by one; what does not decode ends the reading of its block, never the program. */
#define _GNU_SOURCE
#include "tools/fa-report/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "core/trace/format.h"

#define RAW_MAX (EVENTS_COLUMNS * (sizeof(uint32_t) + (size_t)EVENTS_BLOCK_MAX * 10))
#define PACKED_MAX ZSTD_COMPRESSBOUND(RAW_MAX)
#define SITES 65536u

struct column {
	const uint8_t *at, *end;
};

struct decoder {
	struct column column[EVENTS_COLUMNS];
	uint32_t thread, frame;
	int64_t age;
	uint64_t births;
	uint64_t last_size[SITES];
};

static bool number_take(struct column *column, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; column->at != column->end && shift < 64; shift += 7) {
		uint8_t byte = *column->at++;
		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static bool signed_take(struct column *column, int64_t *value)
{
	uint64_t code;
	bool taken = number_take(column, &code);
	*value = taken ? events_unzigzag(code) : 0;
	return taken;
}

static bool event_take(struct decoder *decoder, struct events_event *event)
{
	struct column *column = decoder->column;
	uint64_t number;
	int64_t difference;
	if (column[EVENTS_COLUMN_OP].at == column[EVENTS_COLUMN_OP].end)
		return false;
	uint8_t op = *column[EVENTS_COLUMN_OP].at++;
	*event = (struct events_event){.op = (enum events_op)(op & 3), .tier = op >> 2 & 3};
	if (op & EVENTS_OP_THREAD) {
		if (!number_take(&column[EVENTS_COLUMN_THREAD], &number))
			return false;
		decoder->thread = (uint32_t)number;
	}
	if (op & EVENTS_OP_FRAME) {
		if (!signed_take(&column[EVENTS_COLUMN_FRAME], &difference))
			return false;
		decoder->frame += (uint32_t)difference;
	}
	event->thread = decoder->thread;
	event->frame = decoder->frame;
	if (event->op == EVENTS_BIRTH) {
		if (event->tier >= TRACE_TIERS || !number_take(&column[EVENTS_COLUMN_SITE], &number) ||
		    !signed_take(&column[EVENTS_COLUMN_SIZE], &difference))
			return false;
		event->site = (uint32_t)number;
		event->size = decoder->last_size[event->site % SITES] += (uint64_t)difference;
		event->birth = decoder->births++;
	} else if (event->op == EVENTS_DEATH) {
		if (!signed_take(&column[EVENTS_COLUMN_AGE], &difference))
			return false;
		decoder->age += difference;
		if (decoder->age <= 0 || (uint64_t)decoder->age > decoder->births)
			return false;
		event->birth = decoder->births - (uint64_t)decoder->age;
	}
	return true;
}

/* False: the block's contents are no events. */
static bool decode(struct decoder *decoder, const uint8_t *raw, size_t bytes, const struct events_block *block,
		   void (*each)(void *, const struct events_event *), void *context, struct events_totals *totals)
{
	uint32_t length[EVENTS_COLUMNS];
	if (bytes < sizeof length)
		return false;
	memcpy(length, raw, sizeof length);
	const uint8_t *at = raw + sizeof length, *end = raw + bytes;
	for (int c = 0; c < EVENTS_COLUMNS; at += length[c++]) {
		if (length[c] > (size_t)(end - at))
			return false;
		decoder->column[c] = (struct column){at, at + length[c]};
	}
	memset(decoder->last_size, 0, sizeof decoder->last_size);
	decoder->thread = decoder->frame = 0;
	decoder->age = 0;
	decoder->births = block->first_birth;
	for (uint32_t i = 0; i < block->events; i++) {
		struct events_event event;
		if (!event_take(decoder, &event))
			return false;
		totals->births += event.op == EVENTS_BIRTH;
		totals->deaths += event.op == EVENTS_DEATH;
		totals->unknown_deaths += event.op == EVENTS_UNKNOWN_DEATH;
		if (each)
			each(context, &event);
	}
	return true;
}

static void tell(bool progress, uint64_t done, uint64_t bytes)
{
	if (progress && bytes)
		fprintf(stderr, "\rfa-report: events  %3.0f %%", 100.0 * (double)done / (double)bytes);
}

static void damaged(struct events_totals *totals, const char *path, const char *what, uint64_t at)
{
	if (!totals->damage[0])
		snprintf(totals->damage, sizeof totals->damage, "%.400s: %s at byte %llu; what is whole is counted",
			 path, what, (unsigned long long)at);
}

/* What `file` holds behind its header. */
static void read_blocks(FILE *file, const char *path, void (*each)(void *, const struct events_event *), void *context,
			bool progress, struct events_totals *totals)
{
	struct decoder *decoder = malloc(sizeof *decoder);
	uint8_t *raw = malloc(RAW_MAX), *packed = malloc(PACKED_MAX);
	struct events_block block;
	uint64_t at = sizeof(struct events_header);
	progress = progress && isatty(STDERR_FILENO);
	while (decoder && raw && packed) {
		size_t got = fread(&block, 1, sizeof block, file);
		if (!got)
			break;
		if (got != sizeof block || block.magic != EVENTS_BLOCK_MAGIC || block.raw_bytes > RAW_MAX ||
		    block.packed_bytes > PACKED_MAX || block.events > EVENTS_BLOCK_MAX) {
			damaged(totals, path, got == sizeof block ? "no block of events" : "cut", at);
			break;
		}
		if (fread(packed, 1, block.packed_bytes, file) != block.packed_bytes) {
			damaged(totals, path, "cut", at);
			break;
		}
		size_t bytes = ZSTD_decompress(raw, RAW_MAX, packed, block.packed_bytes);
		if (ZSTD_isError(bytes) || bytes != block.raw_bytes ||
		    !decode(decoder, raw, bytes, &block, each, context, totals))
			damaged(totals, path, "a damaged block", at); /* the next one may be whole */
		at += sizeof block + block.packed_bytes;
		tell(progress, at, totals->bytes);
	}
	if (progress)
		fputs("\r\033[K", stderr);
	if (!decoder || !raw || !packed)
		damaged(totals, path, "out of memory", at);
	free(decoder);
	free(raw);
	free(packed);
}

bool events_read(const char *recording, void (*each)(void *context, const struct events_event *event), void *context,
		 bool progress, struct events_totals *totals)
{
	char path[8192];
	struct events_header header;
	*totals = (struct events_totals){0};
	snprintf(path, sizeof path, "%s.events", recording);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	if (fseek(file, 0, SEEK_END) == 0)
		totals->bytes = (uint64_t)ftell(file);
	if (fseek(file, 0, SEEK_SET) || fread(&header, sizeof header, 1, file) != 1 ||
	    memcmp(header.magic, EVENTS_MAGIC, sizeof header.magic)) {
		damaged(totals, path, "not a file of events (it does not begin with FAEVENT)", 0);
	} else if (header.version != EVENTS_VERSION) {
		snprintf(totals->damage, sizeof totals->damage,
			 "%.400s: events of version %u; this fa-report reads version %u", path, header.version,
			 EVENTS_VERSION);
	} else {
		totals->lost = header.lost;
		totals->closed = header.closed == 1;
		read_blocks(file, path, each, context, progress, totals);
	}
	fclose(file);
	return true;
}
