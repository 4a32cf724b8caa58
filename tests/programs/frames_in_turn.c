/*
 * Two frame threads, one after the other in one slot: nothing of the first one's frame 2 may act in a frame of the
 * second. The arguments say what was in it, and in which frame the second does its part.
 */
#include "common.h"

static int frames, others;
static sem_t ready, stay;

SITE void *make(size_t size)
{
	return malloc(size);
}

static void begin_frame(int number)
{
	for (int i = 0; i < number; i++)
		frame_mark();
}

static void run(void *(*routine)(void *), int number)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, routine, &number) == 0 && pthread_join(thread, NULL) == 0);
}

static void *volatile kept[10];

static void *leave(void *number)
{
	begin_frame(*(int *)number);
	for (int i = 0; i < 10; i++)
		kept[i] = make(100);
	return NULL;
}

static void *exit_in_frame(void *number)
{
	begin_frame(*(int *)number);
	exit(failures != 0);
	return NULL;
}

/* 60 allocations that no frame tier serves. */
static void *large(void *number)
{
	begin_frame(*(int *)number);
	for (int i = 0; i < 60; i++)
		free(make(100000));
	frame_mark();
	return NULL;
}

/* 2 MB in 100 ms without a boundary. */
static void *pile_up(void *number)
{
	void *block[2000];
	begin_frame(*(int *)number);
	for (int i = 0; i < 2000; i++) {
		block[i] = make(1000);
		if (i % 100 == 0)
			usleep(5000);
	}
	for (int i = 0; i < 2000; i++)
		free(block[i]);
	frame_mark();
	return NULL;
}

static void *pass(void *unused)
{
	(void)unused;
	free(malloc(10));
	return NULL;
}

static void *pass_and_stay(void *unused)
{
	pass(NULL);
	sem_post(&ready);
	sem_wait(&stay);
	return unused;
}

/* So many threads come and go that the last, which runs no frame, goes on in the record of the first. */
static void hand_on(void)
{
	pthread_t thread;
	run(leave, 2);
	CHECK(pthread_create(&thread, NULL, pass_and_stay, NULL) == 0);
	sem_wait(&ready);
	for (int i = 0; i < others; i++)
		run(pass, 0);
	CHECK(pthread_create(&thread, NULL, pass_and_stay, NULL) == 0);
	sem_wait(&ready);
	for (int i = 0; i < 10; i++)
		free(kept[i]);
	_exit(failures != 0);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	frames = others = atoi(argv[2]);
	sem_init(&ready, 0, 0);
	sem_init(&stay, 0, 0);
	if (!strcmp(argv[1], "hand-on"))
		hand_on();
	void *(*first)(void *) = !strcmp(argv[1], "leave") ? leave : !strcmp(argv[1], "large") ? large : pile_up;
	run(first, 2);
	run(first == leave ? exit_in_frame : first, frames);
	return failures != 0;
}
