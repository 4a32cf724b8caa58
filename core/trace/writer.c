/* The writing side of format.h. The file is opened only to be made or to grow, and closed again: the target never finds
   a descriptor of ours. One that is about to lose the right to open it has the file made as long as it may become, with
   a hole at its end. New pages are populated before use, so that a full disk is an error here and not a SIGBUS later. Only
   the growth path makes system calls. */
#define _GNU_SOURCE
#include "core/trace/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FIRST_PAGES 128u /* what every process comes to use */
#define GROW_PAGES 64u
#define RETRY_EVERY                                                                                                    \
	256u /* requests after one that was refused: a full disk costs system calls no more than now and then */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct trace_header *trace_header;
struct trace_array trace_modules, trace_nodes, trace_sites, trace_labels, trace_groups, trace_threads, trace_lifetimes,
	trace_violations, trace_markers, trace_tags, trace_task_types, trace_task_counts, trace_tallies,
	trace_suppressions;

static struct trace_header *parent; /* where a followed child without a recording is counted; NULL: it has one */

static struct {
	struct base_lock lock;
	char *map; /* TRACE_MAX_BYTES of addresses, the file at its beginning */
	char path[1024];
	dev_t device;
	ino_t inode;
	bool anonymous;
	uint32_t whole_pages; /* that the file has: what is not ready yet is a hole; 0: it has none */
	uint32_t ready_pages; /* accessible pages of the file */
	uint32_t taken_pages;
	uint32_t refused; /* requests since it could not grow any more; most of them do not try */
} writer;

void trace_loss(enum trace_loss loss, uint64_t count)
{
	if (trace_header)
		trace_add(&trace_header->losses[loss], count);
}

/* Appends zeros to the open file from `from` on, up to `bytes`. Written pages come in large pieces; each one that a store or
   madvise makes is an allocation of its own, at three times the price on ext4. By system calls: no cancellation point. */
static int extend(int fd, size_t from, size_t bytes)
{
	static char zeros[4096];
	enum { PIECES = 128 };
	while (from < bytes) {
		struct iovec piece[PIECES];
		int count = 0;
		for (size_t at = from; at < bytes && count < PIECES; at += sizeof zeros)
			piece[count++] = (struct iovec){zeros, bytes - at < sizeof zeros ? bytes - at : sizeof zeros};
		long written = syscall(SYS_pwritev, fd, piece, count, from, 0);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written ? -errno : -ENOSPC;
		from += (size_t)written;
	}
	return 0;
}

/* Of the file: asking for more would raise SIGXFSZ. */
static size_t length_limit(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur > TRACE_MAX_BYTES ? TRACE_MAX_BYTES : limit.rlim_cur;
}

/* Makes the first `pages` pages of the open file usable. */
static int populate(int fd, uint32_t pages)
{
	size_t bytes = (size_t)pages * TRACE_PAGE_BYTES, from = (size_t)writer.ready_pages * TRACE_PAGE_BYTES;
	if (bytes > length_limit())
		return -EFBIG;
	int error = extend(fd, from, bytes);
	/* A kernel before 5.14 does not know this; the file has its blocks all the same. */
	if (!error && madvise(writer.map + from, bytes - from, MADV_POPULATE_WRITE) && errno != EINVAL)
		error = -errno;
	if (error && ftruncate(fd, (off_t)from)) {
		/* the file stays longer than it is used: harmless */
	}
	return error;
}

/* The recording's file, or a negative errno. */
static int open_again(void)
{
	int fd = base_open(writer.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
	if (fd < 0)
		return -errno;
	struct stat now;
	int error = fstat(fd, &now) ? -errno : 0;
	if (!error && (now.st_dev != writer.device || now.st_ino != writer.inode))
		error = -ESTALE; /* somebody else's file stands there now */
	if (error)
		base_close(fd);
	return error ? error : fd;
}

static int fill_hole(uint32_t pages)
{
	size_t from = (size_t)writer.ready_pages * TRACE_PAGE_BYTES;
	return madvise(writer.map + from, (size_t)pages * TRACE_PAGE_BYTES - from, MADV_POPULATE_WRITE) ? -errno : 0;
}

/* Lock held. */
static int grow(uint32_t pages)
{
	uint32_t wanted = writer.ready_pages + GROW_PAGES;
	if (wanted > TRACE_MAX_BYTES / TRACE_PAGE_BYTES)
		wanted = TRACE_MAX_BYTES / TRACE_PAGE_BYTES;
	if (wanted < pages)
		wanted = pages;
	if (writer.anonymous) {
		writer.ready_pages = wanted;
		return 0;
	}
	bool whole = writer.whole_pages != 0;
	if (whole && wanted > writer.whole_pages)
		wanted = writer.whole_pages;
	if (wanted < pages)
		return -EFBIG;
	int fd = whole ? -1 : base_spares_calls() ? -EPERM : open_again();
	if (fd < 0 && !whole)
		return fd;
	int error = whole ? fill_hole(wanted) : populate(fd, wanted);
	if (error && wanted > pages && (whole ? fill_hole(pages) : populate(fd, pages)) == 0) {
		wanted = pages;
		error = 0;
	}
	if (fd >= 0)
		base_close(fd);
	if (!error)
		writer.ready_pages = wanted;
	return error;
}

void trace_keep_room(void)
{
	if (!trace_header || !base_lock(&writer.lock))
		return;
	int saved = errno, fd = writer.anonymous || writer.whole_pages || base_spares_calls() ? -EEXIST : open_again();
	if (fd >= 0) {
		uint32_t pages = (uint32_t)(length_limit() / TRACE_PAGE_BYTES);
		bool fills_holes = !madvise(writer.map, 0, MADV_POPULATE_WRITE); /* a kernel since 5.14 */
		off_t bytes = (off_t)pages * TRACE_PAGE_BYTES;
		if (pages > writer.ready_pages &&
		    !(fills_holes ? ftruncate(fd, bytes) : syscall(SYS_fallocate, fd, 0, (off_t)0, bytes))) {
			writer.whole_pages = pages;
			if (!fills_holes)
				writer.ready_pages = pages;
		}
		base_close(fd);
	}
	errno = saved;
	base_unlock(&writer.lock);
}

/* Lock held. Whether the file's first `pages` pages can be used, or it could grow so far. */
static bool has_room(uint32_t pages)
{
	if (pages <= writer.ready_pages)
		return true;
	if (pages > TRACE_MAX_BYTES / TRACE_PAGE_BYTES)
		return false; /* smaller requests may still be served */
	int saved = errno;
	bool grown = writer.refused % RETRY_EVERY == 0 && !grow(pages);
	errno = saved;
	writer.refused = grown ? 0 : writer.refused + 1;
	return grown;
}

/* Lock held. A chunk of `pages` pages; NULL when the file cannot hold it. */
static struct trace_chunk *chunk_take(struct trace_array *array, uint32_t pages)
{
	uint32_t index = trace_header->chunk_count;
	if (index == TRACE_CHUNKS_MAX)
		return NULL;
	if (!has_room(writer.taken_pages + pages)) {
		trace_loss(TRACE_LOSS_GROWTH, 1);
		return NULL;
	}
	struct trace_chunk *chunk = (struct trace_chunk *)(writer.map + TRACE_PAGE_BYTES) + index;
	*chunk = (struct trace_chunk){.kind = array->kind,
				      .owner = array->owner,
				      .first_page = writer.taken_pages,
				      .first_index = array->chunks * array->per_chunk,
				      .capacity = array->per_chunk,
				      .record_bytes = array->record_bytes};
	writer.taken_pages += pages;
	trace_header->file_pages = writer.taken_pages;
	__atomic_store_n(&chunk->pages, pages, __ATOMIC_RELEASE);
	__atomic_store_n(&trace_header->chunk_count, index + 1, __ATOMIC_RELEASE);
	return chunk;
}

void trace_array_init(struct trace_array *array, enum trace_kind kind, uint32_t owner, uint32_t record_bytes,
		      uint32_t per_chunk, uint32_t max)
{
	*array = (struct trace_array){.kind = (uint16_t)kind,
				      .owner = owner,
				      .record_bytes = record_bytes,
				      .per_chunk = per_chunk,
				      .per_chunk_bits = (uint32_t)__builtin_ctz(per_chunk),
				      .max = max};
}

/* The array's last chunk has room. */
static void *put(struct trace_array *array, const void *record, uint32_t at, uint32_t *index)
{
	void *place = trace_at(array, at);
	if (record)
		memcpy(place, record, array->record_bytes);
	trace_publish(array, at);
	if (index)
		*index = at;
	return place;
}

void *trace_append(struct trace_array *array, const void *record, uint32_t *index)
{
	if (!base_lock(&writer.lock))
		return NULL;
	uint32_t at = atomic_load_explicit(&array->count, memory_order_relaxed);
	uint32_t chunk = at >> array->per_chunk_bits;
	void *place = NULL;
	if (at < array->max && chunk < TRACE_ARRAY_CHUNKS) {
		if (chunk == array->chunks) {
			size_t bytes = round_up((size_t)array->per_chunk * array->record_bytes, TRACE_PAGE_BYTES);
			struct trace_chunk *entry = chunk_take(array, (uint32_t)(bytes / TRACE_PAGE_BYTES));
			if (entry) {
				array->entry[chunk] = entry;
				array->base[chunk] = writer.map + (size_t)entry->first_page * TRACE_PAGE_BYTES;
				array->chunks++;
			}
		}
		if (chunk < array->chunks)
			place = put(array, record, at, index);
	}
	base_unlock(&writer.lock);
	return place;
}

void *trace_append_alone(struct trace_array *array, const void *record, uint32_t *index)
{
	uint32_t at = atomic_load_explicit(&array->count, memory_order_relaxed);
	if (trace_is_ready(array, at))
		return put(array, record, at, index);
	return trace_append(array, record, index);
}

static int create_file(const char *path)
{
	int fd = base_open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_EXCL, 0644);
	if (fd < 0)
		return -errno;
	struct stat now;
	int error = fstat(fd, &now) ? -errno : 0;
	if (!error &&
	    mmap(writer.map, TRACE_MAX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		error = -errno;
	if (!error) {
		writer.device = now.st_dev;
		writer.inode = now.st_ino;
		uint32_t pages = FIRST_PAGES;
		error = populate(fd, pages);
		if (error)
			error = populate(fd, pages = GROW_PAGES);
		if (!error)
			writer.ready_pages = pages;
	}
	base_close(fd);
	if (error)
		unlink(path);
	return error;
}

int trace_open(const char *path)
{
	writer.map = base_map(TRACE_MAX_BYTES);
	writer.anonymous = !writer.map;
	if (writer.anonymous)
		return -ENOMEM;
	int error = -ENOENT;
	if (path) {
		base_text_copy(writer.path, sizeof writer.path, path);
		error = create_file(path);
	}
	if (error == -EEXIST) {
		munmap(writer.map, TRACE_MAX_BYTES);
		return error;
	}
	if (error) {
		writer.anonymous = true;
		/* A failed attempt may have left the file's pages there. */
		if (mmap(writer.map, TRACE_MAX_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
			return -ENOMEM;
		writer.ready_pages = FIRST_PAGES;
	}
	/* But for the header: a child that has no recording says so there. */
	madvise(writer.map + TRACE_PAGE_BYTES, TRACE_MAX_BYTES - TRACE_PAGE_BYTES, MADV_DONTFORK);
	writer.taken_pages = 1 + TRACE_TABLE_PAGES;
	trace_header = (struct trace_header *)writer.map;
	trace_header->version = TRACE_VERSION;
	trace_header->header_bytes = sizeof *trace_header;
	trace_header->file_pages = writer.taken_pages;

	trace_array_init(&trace_modules, TRACE_KIND_MODULE, 0, sizeof(struct trace_module), 32, 1024);
	trace_array_init(&trace_nodes, TRACE_KIND_NODE, 0, sizeof(struct trace_node), 4096, 196608);
	trace_array_init(&trace_sites, TRACE_KIND_SITE, 0, sizeof(struct trace_site), 1024, 32768);
	trace_array_init(&trace_labels, TRACE_KIND_GROUP_LABEL, 0, sizeof(struct trace_group_label), 512, 4096);
	trace_array_init(&trace_groups, TRACE_KIND_GROUP, 0, sizeof(struct trace_group), 64, 4096);
	trace_array_init(&trace_threads, TRACE_KIND_THREAD, 0, sizeof(struct trace_thread), 64, 4096);
	trace_array_init(&trace_lifetimes, TRACE_KIND_LIFETIME, 0, sizeof(struct trace_lifetime), 256, 16384);
	trace_array_init(&trace_violations, TRACE_KIND_VIOLATION, 0, sizeof(struct trace_violation), 128, 8192);
	trace_array_init(&trace_tallies, TRACE_KIND_TALLY, 0, sizeof(struct trace_tally), 64, 4096);
	trace_array_init(&trace_markers, TRACE_KIND_MARKER, 0, sizeof(struct trace_marker), 32, 256);
	trace_array_init(&trace_tags, TRACE_KIND_TAG, 0, sizeof(struct trace_tag), 32, 64);
	trace_array_init(&trace_task_types, TRACE_KIND_TASK_TYPE, 0, sizeof(struct trace_task_type), 16, 256);
	trace_array_init(&trace_task_counts, TRACE_KIND_TASK_COUNT, 0, sizeof(struct trace_task_count), 32, 2048);
	trace_array_init(&trace_suppressions, TRACE_KIND_SUPPRESSION, 0, sizeof(struct trace_suppression), 4, 64);
	return error;
}

void trace_child(bool is_followed)
{
	bool tells_parent =
		is_followed && parent && writer.anonymous; /* who has no recording leaves it to the one before */
	struct trace_header *before = trace_header;
	trace_header = NULL; /* first: a signal handler may come by */
	if (before && (tells_parent || !is_followed))
		munmap(before, TRACE_PAGE_BYTES);
	if (!tells_parent)
		parent = is_followed ? before : NULL;
	writer.map = NULL;
	writer.anonymous = false;
	writer.whole_pages = writer.ready_pages = writer.taken_pages = writer.refused = 0;
}

void trace_child_opened(bool is_recorded)
{
	if (!parent)
		return;
	if (!is_recorded || writer.anonymous) {
		writer.anonymous = true;
		trace_add(&parent->losses[TRACE_LOSS_CHILDREN], 1);
	} else {
		munmap(parent, TRACE_PAGE_BYTES);
		parent = NULL;
	}
}

const char *trace_path(void)
{
	return writer.anonymous ? NULL : writer.path;
}
