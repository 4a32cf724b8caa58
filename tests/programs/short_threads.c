/*
 * Short threads, eight alive at a time: each makes 10 blocks and frees 7; main frees the rest. Resident memory must not
 * grow with their number. Usage: short_threads COUNT
 */
#include "common.h"

static void *kept[8][3];

SITE void *worker(void *argument)
{
	long lane = (long)argument;
	void *block[10];
	for (int i = 0; i < 10; i++)
		block[i] = malloc((size_t)(100 * i + 20));
	for (int i = 0; i < 7; i++)
		free(block[i]);
	memcpy(kept[lane], block + 7, sizeof kept[lane]);
	return NULL;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 10000, after_warmup = 0;
	pthread_t thread[8];
	for (long i = 0; i < count; i += 8) {
		frame_mark();
		for (long lane = 0; lane < 8; lane++)
			if (pthread_create(&thread[lane], NULL, worker, (void *)lane))
				return 3;
		for (long lane = 0; lane < 8; lane++) {
			pthread_join(thread[lane], NULL);
			for (int k = 0; k < 3; k++)
				free(kept[lane][k]);
		}
		if (i == count / 16 * 8) /* by then the recording has its bounded list of threads */
			after_warmup = resident_kib();
	}
	printf("%ld\n", resident_kib() - after_warmup);
	return 0;
}
