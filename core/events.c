/* A bounded queue of many writers and one reader: a place is given out only when the reader has left it. */
#define _GNU_SOURCE
#include "core/events.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/counter.h"
#include "core/runtime.h"
#include "core/trace/events.h"
#include "core/trace/writer.h"

#define PATIENCE_NS 1000000000u

struct events_area *events_area;

int events_open(void)
{
	const char *path = runtime_environment("FA_EVENTS");
	if (!path || !path[0])
		return -ENOENT;
	int fd = base_open(path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return -EACCES;
	struct events_area *area = mmap(NULL, sizeof *area, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	base_close(fd);
	if (area == MAP_FAILED)
		return -EACCES;
	bool is_ours = !memcmp(area->magic, EVENTS_AREA_MAGIC, sizeof area->magic) && area->version == EVENTS_VERSION;
	if (!is_ours || atomic_load(&area->abandoned) || atomic_load(&area->pid) != (uint32_t)syscall(SYS_getpid)) {
		bool is_child = is_ours && !atomic_load(&area->abandoned);
		munmap(area, sizeof *area);
		return is_child ? -ECHILD : -EACCES;
	}
	madvise(area, sizeof *area, MADV_DONTFORK);
	events_area = area;
	return 0;
}

/* False: the launcher has taken nothing for a second, or the event is not to wait. */
static bool wait_for_room(struct events_area *area)
{
	if (!area->waits || atomic_load_explicit(&area->abandoned, memory_order_relaxed))
		return false;
	uint64_t taken = atomic_load(&area->taken), since = base_now_ns();
	for (unsigned turn = 0; atomic_load(&area->taken) == taken; turn++) {
		base_wait(turn);
		if (base_now_ns() - since < PATIENCE_NS)
			continue;
		atomic_store(&area->abandoned, 1);
		return false;
	}
	return true;
}

static void push(uint64_t address, uint64_t size, uint32_t site, uint32_t frame)
{
	struct events_area *area = events_area;
	int saved = errno;
	uint64_t place = atomic_load_explicit(&area->pushed, memory_order_relaxed);
	for (;;) {
		/* Negative where others have pushed since, and the launcher has taken: then the exchange fails. */
		int64_t waiting = (int64_t)(place - atomic_load_explicit(&area->taken, memory_order_acquire));
		if (waiting < (int64_t)EVENTS_QUEUE) {
			if (atomic_compare_exchange_weak_explicit(&area->pushed, &place, place + 1,
								  memory_order_relaxed, memory_order_relaxed))
				break;
			continue;
		}
		if (!wait_for_room(area)) {
			atomic_fetch_add(&area->lost, 1);
			trace_loss(TRACE_LOSS_EVENTS, 1);
			errno = saved;
			return;
		}
		place = atomic_load_explicit(&area->pushed, memory_order_relaxed);
	}
	struct events_raw *event = &area->queue[place % EVENTS_QUEUE];
	event->address = address;
	event->size = size;
	event->site = site;
	event->frame = frame;
	atomic_store_explicit(&event->ready, place + 1, memory_order_release);
	errno = saved;
}

static uint64_t address_of(const void *pointer, enum events_op op, uint32_t tier)
{
	return (uint64_t)(uintptr_t)pointer | (uint64_t)op | (uint64_t)tier << 2;
}

static uint64_t by(const struct thread *thread)
{
	return (uint64_t)thread->record_index << EVENTS_THREAD_SHIFT;
}

void events_push_birth(const struct thread *thread, const void *pointer)
{
	const struct block *block = block_of(pointer);
	push(address_of(pointer, EVENTS_BIRTH, block_account(block_tag(block))), by(thread) | block_size(block),
	     block_site(block), thread->in_frame && !thread->in_task ? thread->frame : 0);
}

void events_push_death(const struct thread *thread, const void *pointer)
{
	push(address_of(pointer, EVENTS_DEATH, block_account(block_tag(block_of(pointer)))), by(thread), 0, 0);
}

void events_push_frame(const struct thread *thread, bool begins)
{
	push(address_of(NULL, EVENTS_MARK, begins ? EVENTS_FRAME_BEGIN : EVENTS_FRAME_END), by(thread), 0,
	     thread->frame);
}

void events_recording(const char *path)
{
	struct events_area *area = events_area;
	uint32_t place = atomic_load(&area->recordings);
	if (!path || place >= EVENTS_RECORDINGS_MAX || base_text_length(path) >= EVENTS_PATH_BYTES) {
		events_child();
		return;
	}
	base_text_copy(area->path[place], EVENTS_PATH_BYTES, path);
	atomic_store(&area->recordings, place + 1);
	push(address_of(NULL, EVENTS_MARK, EVENTS_RECORDING), 0, place, 0);
}

void events_child(void)
{
	events_area = NULL;
}
