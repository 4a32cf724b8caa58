/* The ways a process ends. Usage: exits exit|_exit|quick_exit|abort|segv|thread|exec|overflow */
#include "common.h"

SITE void leak(int count)
{
	while (count--)
		if (!malloc(100))
			abort();
}

SITE int overflow(int depth)
{
	volatile char room[4096];
	room[0] = (char)depth;
	free(malloc(10));
	return overflow(depth + 1) + room[0];
}

static void *ends_process(void *unused)
{
	leak(10);
	exit(3);
	return unused;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "exit";
	pthread_t thread;
	frame_mark();
	leak(50);
	frame_mark();
	if (!strcmp(how, "exit"))
		exit(4);
	if (!strcmp(how, "_exit"))
		_exit(4);
	if (!strcmp(how, "quick_exit"))
		quick_exit(4);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		*(volatile int *)8 = 1;
	if (!strcmp(how, "overflow"))
		return overflow(0);
	if (!strcmp(how, "exec"))
		execl(argv[0], argv[0], "exit", NULL);
	if (!strcmp(how, "thread") && !pthread_create(&thread, NULL, ends_process, NULL))
		pthread_join(thread, NULL);
	return 5;
}
