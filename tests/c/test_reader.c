/*
 * Unit tests of the trace reader on recordings made here byte by byte: whole, cut, damaged, of another version, and no
 * recording at all; then random damage, where only not crashing counts. Sources: core/trace/reader.c
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/trace/reader.h"
#include "tests/c/check.h"

enum { FIRST_PAGE = 1 + TRACE_TABLE_PAGES, PAGES = FIRST_PAGE + 8, NODES_A = 200, NODES_B = 50 };

static uint8_t file[PAGES * TRACE_PAGE_BYTES];
static char path[64];
static struct reader reader;

static struct trace_header *header(void)
{
	return (struct trace_header *)file;
}

static struct trace_chunk *chunk(uint32_t index)
{
	return (struct trace_chunk *)(file + TRACE_PAGE_BYTES) + index;
}

static void *page(uint32_t number)
{
	return file + (size_t)number * TRACE_PAGE_BYTES;
}

/* Two chunks of nodes, one of threads, frames of two threads; strings fill their fields to the last byte. */
static void make(void)
{
	memset(file, 0, sizeof file);
	*header() = (struct trace_header){
		.version = TRACE_VERSION, .header_bytes = sizeof(struct trace_header), .chunk_count = 5};
	memcpy(header()->magic, TRACE_MAGIC, 8);
	memset(header()->exe, 'e', sizeof header()->exe);
	*chunk(0) =
		(struct trace_chunk){TRACE_KIND_NODE, 0, 0, FIRST_PAGE, 1, 0, 256, NODES_A, sizeof(struct trace_node)};
	*chunk(1) =
		(struct trace_chunk){TRACE_KIND_THREAD, 0, 0, FIRST_PAGE + 1, 1, 0, 9, 2, sizeof(struct trace_thread)};
	*chunk(2) =
		(struct trace_chunk){TRACE_KIND_FRAME, 0, 0, FIRST_PAGE + 2, 1, 0, 64, 3, sizeof(struct trace_frame)};
	*chunk(3) =
		(struct trace_chunk){TRACE_KIND_FRAME, 0, 1, FIRST_PAGE + 3, 1, 0, 64, 7, sizeof(struct trace_frame)};
	*chunk(4) = (struct trace_chunk){TRACE_KIND_NODE,          0, 0, FIRST_PAGE + 4, 2, 256, 512, NODES_B,
					 sizeof(struct trace_node)};
	for (uint32_t i = 0; i < NODES_A; i++)
		((struct trace_node *)page(FIRST_PAGE))[i].offset = 1000 + i;
	for (uint32_t i = 0; i < NODES_B; i++)
		((struct trace_node *)page(FIRST_PAGE + 4))[i].offset = 5000 + i;
	struct trace_thread *threads = page(FIRST_PAGE + 1);
	for (uint32_t i = 0; i < 2; i++)
		memset(threads[i].name, 't', sizeof threads[i].name);
}

static int read_back(size_t bytes)
{
	FILE *out = fopen(path, "w");
	if (!out || fwrite(file, 1, bytes, out) != bytes || fclose(out)) {
		perror(path);
		exit(1);
	}
	return reader_open(&reader, path);
}

static uint64_t node_offset(uint32_t index)
{
	const struct trace_node *node = reader_at(reader_array(&reader, TRACE_KIND_NODE, 0), index);
	return node ? node->offset : 0;
}

static void test_whole(void)
{
	make();
	CHECK(read_back(sizeof file) == 0);
	CHECK(reader.damage[0] == 0);
	CHECK(reader_array(&reader, TRACE_KIND_NODE, 0)->count == 256 + NODES_B);
	CHECK(node_offset(0) == 1000 && node_offset(NODES_A - 1) == 1000 + NODES_A - 1);
	CHECK(node_offset(NODES_A) == 0); /* between the chunks: never written */
	CHECK(node_offset(256) == 5000 && node_offset(256 + NODES_B) == 0);
	CHECK(reader_array(&reader, TRACE_KIND_FRAME, 0)->count == 3);
	CHECK(reader_array(&reader, TRACE_KIND_FRAME, 1)->count == 7);
	CHECK(reader_array(&reader, TRACE_KIND_FRAME, 2)->count == 0);
	CHECK(reader_array(&reader, TRACE_KIND_MARKER, 0)->count == 0);
	CHECK(strlen(reader.header.exe) == sizeof reader.header.exe - 1);
	const struct trace_thread *thread = reader_at(reader_array(&reader, TRACE_KIND_THREAD, 0), 1);
	CHECK(thread && strlen(thread->name) == sizeof thread->name - 1);
	CHECK(reader_at(reader_array(&reader, TRACE_KIND_THREAD, 0), 2) == NULL);
	reader_close(&reader);
}

static void check_damage_line(void)
{
	CHECK(reader.damage[0] && !strchr(reader.damage, '\n'));
}

static void test_cut(void)
{
	make();
	size_t whole_nodes = 100;
	CHECK(read_back(FIRST_PAGE * TRACE_PAGE_BYTES + whole_nodes * sizeof(struct trace_node) + 3) == 0);
	CHECK(reader_array(&reader, TRACE_KIND_NODE, 0)->count == whole_nodes);
	CHECK(node_offset(99) == 1099);
	CHECK(reader_array(&reader, TRACE_KIND_FRAME, 1)->count == 0);
	check_damage_line();
	reader_close(&reader);
	for (size_t bytes = sizeof(struct trace_header); bytes < sizeof file; bytes += 509) {
		CHECK(read_back(bytes) == 0);
		reader_close(&reader);
	}
}

/* Each kind of nonsense in one entry loses that entry and no other. */
static void test_bad_entries(void)
{
	for (int damage = 0; damage < 8; damage++) {
		make();
		struct trace_chunk *bad = chunk(3);
		switch (damage) {
		case 0:
			bad->kind = TRACE_KIND_COUNT;
			break;
		case 1:
			bad->kind = TRACE_KIND_NONE;
			break;
		case 2:
			bad->record_bytes = 0;
			break;
		case 3:
			bad->used = bad->capacity + 1;
			break;
		case 4:
			bad->pages = UINT32_MAX;
			break;
		case 5:
			bad->first_index = UINT32_MAX;
			break;
		case 6:
			bad->pages = 0;
			break;
		case 7:
			bad->first_page = UINT32_MAX;
			break;
		}
		CHECK(read_back(sizeof file) == 0);
		check_damage_line();
		CHECK(reader_array(&reader, TRACE_KIND_FRAME, 1)->count == 0);
		CHECK(reader_array(&reader, TRACE_KIND_FRAME, 0)->count == 3);
		CHECK(node_offset(256) == 5000);
		reader_close(&reader);
	}
	make();
	header()->chunk_count = UINT32_MAX;
	CHECK(read_back(sizeof file) == 0);
	CHECK(node_offset(256) == 5000);
	check_damage_line();
	reader_close(&reader);
}

static void check_refused(size_t bytes, int error)
{
	CHECK(read_back(bytes) == error);
	check_damage_line();
	CHECK(reader_array(&reader, TRACE_KIND_NODE, 0)->count == 0);
	reader_close(&reader);
}

static void test_refused(void)
{
	make();
	check_refused(0, -EINVAL);
	check_refused(sizeof(struct trace_header) - 1, -EINVAL);
	header()->version = TRACE_VERSION + 1;
	check_refused(sizeof file, -EPROTO);
	header()->magic[0] = 'X';
	check_refused(sizeof file, -EINVAL);
	CHECK(reader_open(&reader, "/nonexistent/recording") == -ENOENT);
	check_damage_line();
	CHECK(reader_open(&reader, "/") == -EISDIR);
	CHECK(reader_open(&reader, "/dev/null") == -EINVAL);
}

static void test_random_damage(void)
{
	uint64_t state = 7;
	for (int round = 0; round < 3000; round++) {
		make();
		for (int i = 0; i <= round % 64; i++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			size_t within = i & 1 ? sizeof file : 2 * TRACE_PAGE_BYTES;
			file[12 + (state >> 24) % (within - 12)] = (uint8_t)(state >> 56);
		}
		if (read_back(round & 1 ? sizeof file : (size_t)(state >> 33) % sizeof file) == 0) {
			for (size_t i = 0; i < reader.array_count; i++)
				CHECK((uint64_t)reader.arrays[i].count * reader.arrays[i].record_bytes <=
				      TRACE_MAX_BYTES);
			reader_close(&reader);
		}
	}
}

static void test_histograms(void)
{
	for (uint32_t bucket = 0; bucket + 1 < TRACE_HIST_BUCKETS; bucket++) {
		CHECK(trace_hist_bucket(trace_hist_low(bucket)) == bucket);
		CHECK(trace_hist_bucket(trace_hist_low(bucket + 1) - 1) == bucket);
	}
}

int main(void)
{
	snprintf(path, sizeof path, "/tmp/test_reader.%d.fatrace", (int)getpid());
	test_whole();
	test_cut();
	test_bad_entries();
	test_refused();
	test_random_damage();
	test_histograms();
	unlink(path);
	return failures ? 1 : 0;
}
