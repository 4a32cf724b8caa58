/* The area is memory without a name in any folder: the program reaches it as a descriptor of ours in /proc, and nothing is left
   behind however this process ends. */
#define _GNU_SOURCE
#include "tools/fa-run/drain.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/trace/events.h"
#include "core/trace/reader.h"
#include "tools/fa-run/pack.h"
#include "tools/fa-run/say.h"

#define IDLE_NS 200000 /* between two looks at an empty queue, twice as long after each */
#define IDLE_MAX_NS 2000000 /* which the fastest program needs to fill half of it */
#define HOLE_LIMIT_NS                                                                                                  \
	2000000000u /* a place that was taken and not filled for so long is passed over: its thread is gone */

struct drain {
	struct events_area *area;
	int fd;
	char path[48];
	pthread_t thread;
	bool runs, said;
	_Atomic bool over; /* the program has ended */
	struct pack *pack;
};

struct drain *drain_open(bool waits)
{
	struct drain *drain = calloc(1, sizeof *drain);
	int fd = drain ? memfd_create("framealloc events", MFD_CLOEXEC) : -1;
	void *area = fd >= 0 && !posix_fallocate(fd, 0, sizeof *drain->area)
			     ? mmap(NULL, sizeof *drain->area, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			     : MAP_FAILED;
	if (!drain || area == MAP_FAILED) {
		say("level=full: no memory for a queue of %zu MiB", sizeof *drain->area >> 20);
		if (fd >= 0)
			close(fd);
		free(drain);
		return NULL;
	}
	drain->area = area;
	drain->fd = fd;
	snprintf(drain->path, sizeof drain->path, "/proc/%d/fd/%d", (int)getpid(), fd);
	memcpy(drain->area->magic, EVENTS_AREA_MAGIC, sizeof drain->area->magic);
	drain->area->version = EVENTS_VERSION;
	drain->area->waits = waits;
	return drain;
}

const char *drain_path(const struct drain *drain)
{
	return drain->path;
}

void drain_admit(struct drain *drain)
{
	atomic_store(&drain->area->pid, (uint32_t)getpid());
}

/* Once for each file. */
static void tell(struct drain *drain, const char *what, int error)
{
	if (error && !drain->said)
		say("%s: %s", what, strerror(-error));
	drain->said |= error != 0;
}

static void end_file(struct drain *drain, const char *what)
{
	if (drain->pack)
		tell(drain, what, pack_close(drain->pack, atomic_load(&drain->area->lost)));
	drain->pack = NULL;
	drain->said = false;
}

static void begin_file(struct drain *drain, uint32_t place)
{
	char path[EVENTS_PATH_BYTES + 8];
	end_file(drain, "events of an earlier program are not whole");
	if (place >= EVENTS_RECORDINGS_MAX)
		return;
	snprintf(path, sizeof path, "%.*s.events", (int)EVENTS_PATH_BYTES - 1, drain->area->path[place]);
	drain->pack = pack_open(path);
	if (!drain->pack)
		say("%s: %s", path, strerror(errno));
}

static void take(struct drain *drain, const struct events_raw *event)
{
	if ((event->address & 15) == (EVENTS_MARK | EVENTS_RECORDING << 2)) {
		begin_file(drain, event->site);
		return;
	}
	if (drain->pack)
		tell(drain, "events are not whole from here on", pack_event(drain->pack, event));
}

/* Everything that is there. False: nothing was. A place that is given out and not filled ends it, unless `passes`. */
static bool take_all(struct drain *drain, bool passes)
{
	struct events_area *area = drain->area;
	uint64_t first = atomic_load_explicit(&area->taken, memory_order_relaxed), at = first;
	uint64_t end = atomic_load_explicit(&area->pushed, memory_order_acquire);
	for (; at != end; at++) {
		struct events_raw *event = &area->queue[at % EVENTS_QUEUE];
		if (atomic_load_explicit(&event->ready, memory_order_acquire) == at + 1)
			take(drain, event);
		else if (passes)
			atomic_fetch_add(&area->lost, 1);
		else
			break;
		if ((at & 1023) == 1023)
			atomic_store_explicit(&area->taken, at + 1, memory_order_release);
	}
	atomic_store_explicit(&area->taken, at, memory_order_release);
	return at != first;
}

static void *run(void *given)
{
	struct drain *drain = given;
	uint64_t moved_ns = reader_now_ns();
	long idle_ns = IDLE_NS;
	for (;;) {
		bool over = atomic_load(&drain->over);
		bool stuck = reader_now_ns() - moved_ns > HOLE_LIMIT_NS;
		if (take_all(drain, over || stuck)) {
			moved_ns = reader_now_ns();
			idle_ns = IDLE_NS;
			continue;
		}
		if (over)
			return NULL;
		if (atomic_load(&drain->area->pushed) == atomic_load(&drain->area->taken))
			moved_ns = reader_now_ns();
		nanosleep(&(struct timespec){0, idle_ns}, NULL);
		idle_ns = idle_ns < IDLE_MAX_NS / 2 ? 2 * idle_ns : IDLE_MAX_NS;
	}
}

void drain_start(struct drain *drain)
{
	int error = pthread_create(&drain->thread, NULL, run, drain);
	drain->runs = !error;
	if (error)
		say("level=full: no thread to take the events: %s", strerror(error));
}

void drain_finish(struct drain *drain)
{
	atomic_store(&drain->over, true);
	if (drain->runs)
		pthread_join(drain->thread, NULL);
	end_file(drain, "events are not whole");
	close(drain->fd);
	munmap(drain->area, sizeof *drain->area);
	free(drain);
}
