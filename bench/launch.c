/*
 * Starts one program of the bench and writes what it took: `launch RESULT [NAME=VALUE...] -- PROGRAM [ARG...]`. The
 * variables are the program's alone. RESULT gets one line: wait status, CPU microseconds (user and system), wall
 * microseconds, peak RSS in KiB, and how fast the processor was right before: picoseconds of a step of a loop. It exists
 * because a program inherits the peak RSS of what calls exec: started from Python every small program would have Python's.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long micros(struct timeval time)
{
	return time.tv_sec * 1000000ll + time.tv_usec;
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000ll + time.tv_nsec / 1000;
}

/* Steps that wait for each other: what else the machine runs on the core's other half, unseen from here, makes them longer. */
static long long step_ps(void)
{
	struct timespec begin, end;
	long steps = 1000000, left = steps;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(left));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	return ((end.tv_sec - begin.tv_sec) * 1000000000ll + end.tv_nsec - begin.tv_nsec) * 1000 / steps;
}

int main(int argc, char **argv)
{
	int at = 2;
	while (at < argc && strcmp(argv[at], "--"))
		at++;
	if (at + 1 >= argc) {
		fprintf(stderr, "usage: launch RESULT [NAME=VALUE...] -- PROGRAM [ARG...]\n");
		return 2;
	}
	long long pace = step_ps(), begin = now();
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 2; i < at; i++)
			putenv(argv[i]);
		execvp(argv[at + 1], argv + at + 1);
		_exit(127);
	}
	int status = 0;
	struct rusage usage;
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
		return 1;
	long long wall = now() - begin;
	FILE *result = fopen(argv[1], "w");
	if (!result)
		return 1;
	fprintf(result, "%d %lld %lld %ld %lld\n", status, micros(usage.ru_utime) + micros(usage.ru_stime), wall,
		usage.ru_maxrss, pace);
	return fclose(result) ? 1 : 0;
}
