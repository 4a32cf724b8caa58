/* A signal handler allocates by the API between every two instructions of a pthread_create that fails: where the shim is at
   work on its own account there, no thread has that block. All are then resized, or moved, in the same frame. Arguments: the
   tier, "resize" or "promote". Prints how many blocks there were, and how many are left at the end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../step.h"
#include "framealloc.h"

#define BLOCKS_MAX 100000

static fa_tier tier;
static void *blocks[BLOCKS_MAX];
static volatile size_t count;

static void trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
	if (count < BLOCKS_MAX)
		blocks[count++] = fa_calls()->alloc(tier, 64);
}

static void *nothing(void *argument)
{
	return argument;
}

int main(int argc, char **argv)
{
	(void)argc;
	tier = (fa_tier)atoi(argv[1]);
	struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &action, NULL);
	pthread_attr_t too_large;
	pthread_attr_init(&too_large);
	pthread_attr_setstacksize(&too_large, (size_t)1 << 60);
	pthread_t thread;
	fa_frame_begin();
	STEP_ON();
	int error = pthread_create(&thread, &too_large, nothing, NULL);
	STEP_OFF();
	int resizes = !strcmp(argv[2], "resize");
	for (size_t i = 0; i < count; i++) {
		blocks[i] = resizes ? fa_realloc(blocks[i], 100) : fa_promote(blocks[i], FA_POOL);
		memset(blocks[i], 'a', 64);
	}
	fa_frame_end();
	for (size_t i = 0; i < count && !(resizes && tier == FA_FRAME); i++)
		fa_free(blocks[i]);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("%zu %zu\n", count, (size_t)(stats.frame.live_blocks + stats.other.live_blocks));
	return !error;
}
