/*
 * A small engine for policies to speak of: frames of physics, render and audio work, threads of several kinds. Prints
 * what it has done. Arguments: frames.
 */
#include "common.h"
#include <sys/prctl.h>

static long done;

SITE void *physics_alloc(size_t size)
{
	return malloc(size);
}
SITE void *render_alloc(size_t size)
{
	return malloc(size);
}
SITE void *scratch_alloc(size_t size)
{
	return malloc(size);
}

SITE void collide(int n) /* part of physics, called by render as well */
{
	void *block = physics_alloc(64);
	done += n;
	free(block);
}

SITE void physics_step(int n)
{
	for (int i = 0; i < 4; i++)
		collide(n);
	free(scratch_alloc(1000));
}

SITE void render_step(int n)
{
	void *block = render_alloc(5000);
	collide(n);
	physics_step(n); /* a region within a region */
	free(render_alloc(40));
	free(block);
}

static pthread_barrier_t started, finish;

SITE void *render_main(void *name)
{
	if (name)
		pthread_setname_np(pthread_self(), name);
	pthread_barrier_wait(&started);
	pthread_barrier_wait(&finish);
	return NULL;
}

SITE void *job_main(void *name)
{
	return render_main(name);
}

SITE void *parent_main(void *name)
{
	pthread_t child;
	prctl(PR_SET_NAME, name);
	pthread_create(&child, NULL, render_main, "child");
	pthread_barrier_wait(&started);
	pthread_barrier_wait(&finish);
	pthread_join(child, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	int frames = argc > 1 ? atoi(argv[1]) : 10;
	pthread_t thread[4];
	pthread_barrier_init(&started, NULL, 6);
	pthread_barrier_init(&finish, NULL, 6);
	pthread_create(&thread[0], NULL, job_main, NULL);
	pthread_create(&thread[1], NULL, render_main, "late-name");
	pthread_create(&thread[2], NULL, parent_main, "the-parent");
	pthread_create(&thread[3], NULL, render_main, NULL);
	pthread_barrier_wait(&started);
	for (int i = 0; i < frames; i++) {
		frame_mark();
		physics_step(i);
		render_step(i);
		free(scratch_alloc(16));
	}
	pthread_barrier_wait(&finish);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	printf("%ld\n", done);
	return failures;
}
