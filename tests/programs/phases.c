/* What a program no longer needs, and needs again or not: so many MB of small blocks, and of large ones.
   rounds MB   makes the small ones, frees them, five times: page faults of each round
   turn MB     the same, then the large ones: the most that was resident, in MiB
   unload MB   frees them in one frame of many: resident KiB before; the most that a frame lost, but for the one that freed; resident
               at the end, which comes when three quarters are gone, or after 20,000 frames
   slow MB     the same in frames of 200 ms, 40 at most
   once MB     the same without frames, with new paths to malloc meanwhile
   locked MB   the same, some of their pages locked, then malloc_trim: resident KiB before, and after
   threads N   so many threads make a few blocks more than one slab of some sizes has: KiB that they use, and that are resident */
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common.h"

static void **block;
static size_t blocks;

SITE void make_all(void)
{
	for (size_t i = 0; i < blocks; i++)
		block[i] = memset(malloc(64), 1, 64);
}

static void free_all(void)
{
	for (size_t i = 0; i < blocks; i++)
		free(block[i]);
}

static long faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static void rounds(void)
{
	for (int i = 0; i < 5; i++) {
		long before = faults();
		make_all();
		free_all();
		printf("%ld ", faults() - before);
	}
}

static void turn(size_t mb)
{
	for (int i = 0; i < 4; i++) { /* so often that their pages stay */
		make_all();
		free_all();
	}
	for (size_t i = 0; i < mb; i++)
		block[i] = memset(malloc(1000000), 1, 1000000);
	printf("%ld", status_kib("VmHWM:") / 1024);
}

/* By another path for each depth: it takes the way on which the time is looked at. */
SITE void *at_depth(int depth) /* NOLINT(misc-no-recursion) */
{
	void *made = depth ? at_depth(depth - 1) : malloc(5000);
	return memset(made, 1, 1); /* after the call: it is none of the last thing done */
}

static void unload(bool frames, int most_frames, long frame_ns)
{
	struct timespec pause = {0, frame_ns};
	make_all();
	long begin = resident_kib(), most = 0, now = begin;
	for (int i = 0; i < most_frames && now > begin / 4; i++) {
		if (frames)
			frame_mark();
		if (i == 10)
			free_all();
		for (int depth = 0; !frames && i > 10 && depth < 100; depth++)
			free(at_depth(depth));
		nanosleep(&pause, NULL);
		long last = now;
		now = resident_kib();
		if (i != 10 && last - now > most)
			most = last - now;
	}
	printf("%ld %ld %ld", begin, most, now);
}

static void locked(void)
{
	make_all();
	long begin = resident_kib();
	for (size_t i = 0; i < blocks; i += blocks / 64)
		CHECK(mlock(block[i], 64) == 0);
	free_all();
	malloc_trim(0);
	printf("%ld %ld", begin, resident_kib());
}

static const size_t sizes[] = {32, 64, 128};
static pthread_barrier_t made, told;

static void *use(void *unused)
{
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
		for (size_t used = 0; used < 66000; used += sizes[s] + 16)
			memset(malloc(sizes[s]), 1, sizes[s]);
	pthread_barrier_wait(&made);
	pthread_barrier_wait(&told);
	return unused;
}

static void threads(unsigned count)
{
	pthread_t thread[1000];
	CHECK(count <= 1000);
	pthread_barrier_init(&made, NULL, count + 1);
	pthread_barrier_init(&told, NULL, count + 1);
	long begin = resident_kib();
	for (unsigned i = 0; i < count; i++)
		CHECK(pthread_create(&thread[i], NULL, use, NULL) == 0);
	pthread_barrier_wait(&made);
	printf("%zu %ld", count * 3 * (size_t)66000 / 1024, resident_kib() - begin);
	pthread_barrier_wait(&told);
	for (unsigned i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	size_t mb = strtoul(argv[2], NULL, 10);
	blocks = mb * 1000000 / 80;
	size_t bytes = blocks * sizeof *block;
	block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(block != MAP_FAILED);
	if (!strcmp(argv[1], "rounds"))
		rounds();
	else if (!strcmp(argv[1], "turn"))
		turn(mb);
	else if (!strcmp(argv[1], "locked"))
		locked();
	else if (!strcmp(argv[1], "threads"))
		threads((unsigned)mb);
	else if (!strcmp(argv[1], "slow"))
		unload(true, 40, 200000000);
	else
		unload(!strcmp(argv[1], "unload"), 20000, 1000000);
	puts("");
	return failures != 0;
}
