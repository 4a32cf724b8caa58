/* The columns of core/trace/events.h. Deaths are told by the number of births since that of their block, which an
   open-addressing table from addresses finds; programs free in patterns, and the differences of such numbers pack well. */
#define _GNU_SOURCE
#include "tools/fa-run/pack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define LEVEL 6
#define NUMBER_BYTES 10 /* of a LEB128 number at most */
#define SITES 65536u

struct live {
	uint64_t address, birth; /* address 0: empty */
};

struct pack {
	FILE *file;
	ZSTD_CCtx *zstd;
	int error; /* of what failed first; nothing is written since */
	uint64_t births, first_birth; /* so far; before the open block */
	uint32_t events;
	uint8_t *column[EVENTS_COLUMNS];
	size_t used[EVENTS_COLUMNS];
	uint8_t *raw, *packed;
	size_t packed_room;
	/* what numbers are told against, anew in each block */
	uint32_t thread, frame;
	int64_t age;
	uint64_t last_size[SITES];
	/* blocks alive */
	struct live *table;
	size_t table_room, table_used;
};

static size_t raw_room(void)
{
	return EVENTS_COLUMNS * (sizeof(uint32_t) + (size_t)EVENTS_BLOCK_MAX * NUMBER_BYTES);
}

static void number_put(struct pack *pack, int column, uint64_t value)
{
	uint8_t *at = pack->column[column] + pack->used[column];
	for (; value >= 0x80; value >>= 7)
		*at++ = (uint8_t)value | 0x80;
	*at++ = (uint8_t)value;
	pack->used[column] = (size_t)(at - pack->column[column]);
}

static size_t home_of(const struct pack *pack, uint64_t address)
{
	return (size_t)((address >> 4) * 0x9e3779b97f4a7c15u >> 20) & (pack->table_room - 1);
}

static struct live *find(struct pack *pack, uint64_t address)
{
	size_t at = home_of(pack, address);
	while (pack->table[at].address && pack->table[at].address != address)
		at = (at + 1) & (pack->table_room - 1);
	return &pack->table[at];
}

static bool grow(struct pack *pack)
{
	struct live *old = pack->table;
	size_t room = pack->table_room;
	struct live *wider = calloc(room * 2, sizeof *wider);
	if (!wider)
		return false;
	pack->table = wider;
	pack->table_room = room * 2;
	for (size_t i = 0; i < room; i++)
		if (old[i].address)
			*find(pack, old[i].address) = old[i];
	free(old);
	return true;
}

/* Those behind it move up, so that none is cut off from where it is looked for. */
static void forget(struct pack *pack, struct live *gone)
{
	size_t mask = pack->table_room - 1, hole = (size_t)(gone - pack->table);
	for (size_t at = (hole + 1) & mask; pack->table[at].address; at = (at + 1) & mask) {
		size_t home = home_of(pack, pack->table[at].address);
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			pack->table[hole] = pack->table[at];
			hole = at;
		}
	}
	pack->table[hole].address = 0;
	pack->table_used--;
}

static void fail(struct pack *pack, int error)
{
	if (!pack->error)
		pack->error = error;
}

static void write_all(struct pack *pack, const void *data, size_t bytes)
{
	if (!pack->error && fwrite(data, 1, bytes, pack->file) != bytes)
		fail(pack, errno);
}

static void write_through(struct pack *pack)
{
	if (!pack->error && fflush(pack->file))
		fail(pack, errno);
}

static void block_begin(struct pack *pack)
{
	memset(pack->used, 0, sizeof pack->used);
	memset(pack->last_size, 0, sizeof pack->last_size);
	pack->events = pack->thread = pack->frame = 0;
	pack->age = 0;
	pack->first_birth = pack->births;
}

static void block_write(struct pack *pack)
{
	uint8_t *at = pack->raw;
	for (int c = 0; c < EVENTS_COLUMNS; c++, at += sizeof(uint32_t)) {
		uint32_t bytes = (uint32_t)pack->used[c];
		memcpy(at, &bytes, sizeof bytes);
	}
	for (int c = 0; c < EVENTS_COLUMNS; at += pack->used[c++])
		memcpy(at, pack->column[c], pack->used[c]);
	size_t raw = (size_t)(at - pack->raw),
	       packed = ZSTD_compress2(pack->zstd, pack->packed, pack->packed_room, pack->raw, raw);
	struct events_block block = {EVENTS_BLOCK_MAGIC, pack->events, (uint32_t)raw, (uint32_t)packed,
				     pack->first_birth};
	if (ZSTD_isError(packed)) /* there is room for whatever comes out */
		fail(pack, ENOMEM);
	write_all(pack, &block, sizeof block);
	write_all(pack, pack->packed, packed);
	write_through(pack);
	block_begin(pack);
}

static void pack_free(struct pack *pack)
{
	if (pack->file)
		fclose(pack->file);
	ZSTD_freeCCtx(pack->zstd);
	for (int c = 0; c < EVENTS_COLUMNS; c++)
		free(pack->column[c]);
	free(pack->raw);
	free(pack->packed);
	free(pack->table);
	free(pack);
}

struct pack *pack_open(const char *path)
{
	struct pack *pack = calloc(1, sizeof *pack);
	if (!pack)
		return NULL;
	bool whole = (pack->zstd = ZSTD_createCCtx()) != NULL;
	pack->packed_room = ZSTD_compressBound(raw_room());
	pack->table_room = 1 << 16;
	whole = (pack->raw = malloc(raw_room())) && (pack->packed = malloc(pack->packed_room)) &&
		(pack->table = calloc(pack->table_room, sizeof *pack->table)) && whole;
	for (int c = 0; c < EVENTS_COLUMNS; c++)
		whole = (pack->column[c] = malloc((size_t)EVENTS_BLOCK_MAX * NUMBER_BYTES)) && whole;
	struct events_header header = {.magic = EVENTS_MAGIC, .version = EVENTS_VERSION};
	if (!whole || !(pack->file = fopen(path, "we"))) {
		fail(pack, whole ? errno : ENOMEM);
	} else {
		write_all(pack, &header, sizeof header);
		write_through(pack);
	}
	if (pack->error) {
		int error = pack->error;
		pack_free(pack);
		errno = error;
		return NULL;
	}
	ZSTD_CCtx_setParameter(pack->zstd, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(pack->zstd, ZSTD_c_checksumFlag, 1);
	block_begin(pack);
	return pack;
}

static void op_put(struct pack *pack, enum events_op op, uint32_t tier, uint32_t thread, const uint32_t *frame)
{
	uint32_t byte = (uint32_t)op | tier << 2;
	if (thread != pack->thread) {
		byte |= EVENTS_OP_THREAD;
		number_put(pack, EVENTS_COLUMN_THREAD, thread);
		pack->thread = thread;
	}
	if (frame && *frame != pack->frame) {
		byte |= EVENTS_OP_FRAME;
		number_put(pack, EVENTS_COLUMN_FRAME, events_zigzag((int64_t)*frame - pack->frame));
		pack->frame = *frame;
	}
	pack->column[EVENTS_COLUMN_OP][pack->used[EVENTS_COLUMN_OP]++] = (uint8_t)byte;
}

static void put_birth(struct pack *pack, const struct events_raw *event, uint64_t address, uint32_t tier)
{
	uint32_t thread = (uint32_t)(event->size >> EVENTS_THREAD_SHIFT);
	uint64_t size = event->size & ((1ull << EVENTS_THREAD_SHIFT) - 1),
		 *last = &pack->last_size[event->site % SITES];
	op_put(pack, EVENTS_BIRTH, tier, thread, &event->frame);
	number_put(pack, EVENTS_COLUMN_SITE, event->site);
	number_put(pack, EVENTS_COLUMN_SIZE, events_zigzag((int64_t)(size - *last)));
	*last = size;
	struct live *place = find(pack, address);
	if (!place->address && (pack->table_used + 1) * 4 > pack->table_room * 3) {
		if (!grow(pack))
			fail(pack, ENOMEM);
		place = find(pack, address);
	}
	pack->table_used += !place->address; /* else its death was lost */
	*place = (struct live){address, pack->births++};
}

static void put_death(struct pack *pack, const struct events_raw *event, uint64_t address, uint32_t tier)
{
	uint32_t thread = (uint32_t)(event->size >> EVENTS_THREAD_SHIFT);
	struct live *place = find(pack, address);
	op_put(pack, place->address ? EVENTS_DEATH : EVENTS_UNKNOWN_DEATH, tier, thread, NULL);
	if (!place->address)
		return;
	int64_t age = (int64_t)(pack->births - place->birth);
	number_put(pack, EVENTS_COLUMN_AGE, events_zigzag(age - pack->age));
	pack->age = age;
	forget(pack, place);
}

int pack_event(struct pack *pack, const struct events_raw *event)
{
	uint32_t tier = (uint32_t)(event->address >> 2) & 3;
	uint64_t address = event->address & ~15ull;
	switch ((enum events_op)(event->address & 3)) {
	case EVENTS_BIRTH:
		put_birth(pack, event, address, tier);
		break;
	case EVENTS_DEATH:
	case EVENTS_UNKNOWN_DEATH:
		put_death(pack, event, address, tier);
		break;
	case EVENTS_MARK:
		op_put(pack, EVENTS_MARK, tier, (uint32_t)(event->size >> EVENTS_THREAD_SHIFT), &event->frame);
		break;
	}
	if (++pack->events == EVENTS_BLOCK_MAX)
		block_write(pack);
	return -pack->error;
}

int pack_close(struct pack *pack, uint64_t lost)
{
	struct events_header header = {.magic = EVENTS_MAGIC, .version = EVENTS_VERSION, .closed = 1, .lost = lost};
	if (pack->events)
		block_write(pack);
	/* Also where something failed: what is there is whole, and the header's room is. */
	if (fseek(pack->file, 0, SEEK_SET) || fwrite(&header, sizeof header, 1, pack->file) != 1 || fflush(pack->file))
		fail(pack, errno);
	int error = pack->error;
	pack_free(pack);
	return -error;
}
