/*
 * Frame threads whose blocks other threads free. The arguments say what is made and who frees: `hot` or `alive` and
 * `first` or `second`, two frame threads with a path in common; `pile` and `main` or `worker`.
 */
#include "common.h"

static void *hand[100], *volatile kept[8];
static int count;
static bool by_other, hot;
static sem_t made, freed, closed;

SITE void *make(size_t size)
{
	return malloc(size);
}

SITE void drop(void)
{
	for (int i = 0; i < count; i++)
		free(hand[i]);
}

/*
 * Both make what they make by one path. The first has a frame open until its blocks are dead. Then the second begins:
 * it leaves 5 blocks of its first frame alive, or runs hot in it, and ends the program in its next.
 */
static void *run(void *is_second)
{
	bool second = is_second;
	int in_frame[2] = {second ? hot ? 2000 : 5 : 0, second ? 1 : count};
	if (second) {
		sem_wait(&made);
		if (by_other)
			drop();
		sem_post(&freed);
		sem_wait(&closed);
	}
	for (int frame = 0; frame < 2; frame++) {
		frame_mark();
		for (int i = 0; i < in_frame[frame]; i++) {
			void *block = make(100);
			if (!second)
				hand[i] = block;
			else if (hot)
				free(block);
			else
				kept[i] = block;
		}
	}
	if (second)
		exit(failures != 0);
	if (!by_other)
		drop();
	sem_post(&made);
	sem_wait(&freed);
	frame_mark();
	sem_post(&closed);
	pause();
	return NULL;
}

static void *worker(void *unused)
{
	for (;;) {
		sem_wait(&made);
		drop();
		sem_post(&freed);
	}
	return unused;
}

/* One long frame, never with more than 100 KB alive. */
static void pile(void)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, worker, NULL) == 0);
	frame_mark();
	frame_mark();
	for (int turn = 0; turn < 100; turn++) {
		for (int i = 0; i < count; i++)
			hand[i] = make(1000);
		if (by_other) {
			sem_post(&made);
			sem_wait(&freed);
		} else {
			drop();
		}
		usleep(2000);
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc < 3)
		return 2;
	sem_init(&made, 0, 0);
	sem_init(&freed, 0, 0);
	sem_init(&closed, 0, 0);
	by_other = !strcmp(argv[2], "second") || !strcmp(argv[2], "worker");
	count = !strcmp(argv[1], "pile") ? 100 : 50;
	if (!strcmp(argv[1], "pile")) {
		pile();
	} else {
		hot = !strcmp(argv[1], "hot");
		CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
		CHECK(pthread_create(&thread, NULL, run, &hot) == 0);
		pthread_join(thread, NULL);
	}
	return failures != 0;
}
