/* What the test programs share: named allocation sites, frame markers, checks. Programs print only what fails. */
#ifndef TEST_COMMON_H
#define TEST_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A function that stays a function: its name is what the tests look for in call paths. */
#define SITE __attribute__((noinline, noipa, used))

static int failures;

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			dprintf(2, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                             \
			failures++;                                                                                    \
		}                                                                                                      \
	} while (0)

static volatile unsigned frames_marked;

/* The frame boundary of programs that are run with frame=frame_mark: small, as such functions are. */
SITE void frame_mark(void)
{
	frames_marked = frames_marked + 1;
}

/* What the kernel says of this process under a name with its colon. */
static inline long status_kib(const char *name)
{
	char line[256];
	long kib = 0;
	FILE *file = fopen("/proc/self/status", "r");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, name, strlen(name)))
			kib = strtol(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return kib;
}

static inline long resident_kib(void)
{
	return status_kib("VmRSS:");
}

/* Not getrusage's, which begins with what the process had before exec: the test's own. */
static inline long highest_resident_kib(void)
{
	return status_kib("VmHWM:");
}

static inline void boundary_sleep(void)
{
	struct timespec zero = {0, 1};
	nanosleep(&zero, NULL);
}

#endif
