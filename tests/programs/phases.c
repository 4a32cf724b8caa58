/* What a program no longer needs, and needs again or not: so many MB of small blocks, and of large ones.
   rounds MB   makes the small ones, frees them, five times: page faults of each round
   turn MB     the same once, then the large ones: the most that was resident, in MiB
   unload MB   frees them in one frame of many: resident KiB before; the most that a frame lost, but for the one that freed; resident
               at the end, which comes when three quarters are gone, or after 20,000 frames
   once MB     the same without frames, with new paths to malloc meanwhile */
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
	make_all();
	free_all();
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

static void unload(bool frames)
{
	struct timespec millisecond = {0, 1000000};
	make_all();
	long begin = resident_kib(), most = 0, now = begin;
	for (int i = 0; i < 20000 && now > begin / 4; i++) {
		if (frames)
			frame_mark();
		if (i == 10)
			free_all();
		for (int depth = 0; !frames && i > 10 && depth < 100; depth++)
			free(at_depth(depth));
		nanosleep(&millisecond, NULL);
		long last = now;
		now = resident_kib();
		if (i != 10 && last - now > most)
			most = last - now;
	}
	printf("%ld %ld %ld", begin, most, now);
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
	else
		unload(!strcmp(argv[1], "unload"));
	puts("");
	return failures != 0;
}
