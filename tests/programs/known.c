/*
 * A program whose every count is known: per frame and thread N blocks that die at once, E that die in the next frame,
 * L that never die, R that the thread's partner frees inside the frame, X that the partner frees in the next frame, and
 * G reallocs of one block. O blocks are made before the first frame. Each kind has a function of its own.
 * Usage: known THREADS FRAMES N E L R X G O mark|sleep|usleep exit|kill|wait
 */
#include "common.h"

#include <sys/syscall.h>

enum { MAX = 4096 };
static long threads, frames, n, e, l, r, x, g, o;
static bool by_sleep, by_usleep;

struct lane {
	pthread_t owner, partner;
	void *hand[MAX], *old[MAX], *kept[MAX];
	long handed;
	_Atomic int turn; /* 1: the partner's, 0: the owner's, -1: over */
};
static struct lane lane[16];

static void wait_turn(struct lane *me, int turn)
{
	int now;
	while ((now = me->turn) != turn && now >= 0)
		syscall(SYS_sched_yield); /* not libc's: that may be a marker */
}

SITE void free_partner(struct lane *me)
{
	for (long i = 0; i < me->handed; i++)
		free(me->hand[i]);
}

static void *partner(void *argument)
{
	struct lane *me = argument;
	for (;;) {
		wait_turn(me, 1);
		if (me->turn < 0)
			return NULL;
		free_partner(me);
		me->turn = 0;
	}
}

static void give(struct lane *me, long count)
{
	me->handed = count;
	me->turn = 1;
	wait_turn(me, 0);
}

SITE void site_n(void)
{
	for (long i = 0; i < n; i++)
		free(malloc((size_t)(16 + i % 500)));
}

SITE void site_e(struct lane *me)
{
	for (long i = 0; i < e; i++)
		me->old[i] = malloc(40);
}

SITE void site_l(struct lane *me)
{
	for (long i = 0; i < l; i++)
		me->kept[i % MAX] = calloc(1, 100);
}

SITE void site_r(struct lane *me)
{
	for (long i = 0; i < r; i++)
		me->hand[i] = malloc(64);
}

SITE void site_x(struct lane *me)
{
	for (long i = 0; i < x; i++)
		me->hand[i] = malloc(48);
}

SITE void site_g(void)
{
	void *p = NULL;
	for (long i = 0; i < g; i++)
		p = realloc(p, (size_t)(i + 1) * 24);
	free(p);
}

SITE void site_o(void)
{
	static void *kept[MAX];
	for (long i = 0; i < o; i++) {
		kept[i] = malloc(32);
		if (i % 2)
			free(kept[i]);
	}
}

SITE void free_old(struct lane *me, long frame)
{
	for (long i = 0; i < e && frame > 0; i++)
		free(me->old[i]);
}

static void *owner(void *argument)
{
	struct lane *me = argument;
	for (long frame = 0; frame <= frames; frame++) {
		if (by_sleep)
			boundary_sleep();
		else if (by_usleep)
			usleep(1); /* libc's own call of nanosleep: no interposition sees it */
		else
			frame_mark();
		if (x && frame)
			give(me, x);
		free_old(me, frame);
		if (frame == frames)
			break;
		site_n();
		site_e(me);
		site_l(me);
		site_g();
		if (r) {
			site_r(me);
			give(me, r);
		}
		site_x(me);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 12)
		return 2;
	long *const into[] = {&threads, &frames, &n, &e, &l, &r, &x, &g, &o};
	for (int i = 0; i < 9; i++)
		*into[i] = atol(argv[1 + i]);
	by_sleep = !strcmp(argv[10], "sleep");
	by_usleep = !strcmp(argv[10], "usleep");
	site_o();
	for (long i = 0; i < threads; i++)
		pthread_create(&lane[i].partner, NULL, partner, &lane[i]);
	for (long i = 1; i < threads; i++)
		pthread_create(&lane[i].owner, NULL, owner, &lane[i]);
	owner(&lane[0]);
	for (long i = 1; i < threads; i++)
		pthread_join(lane[i].owner, NULL);
	if (!strcmp(argv[11], "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(argv[11], "wait")) {
		if (write(1, "ready\n", 6) != 6)
			return 3;
		pause();
	}
	for (long i = 0; i < threads; i++) {
		lane[i].turn = -1;
		pthread_join(lane[i].partner, NULL);
	}
	return 0;
}
