/* Threads that end inside a scope: by cancellation at a cancellation point, at any instruction, by pthread_exit, or with
   cleanup handlers that allocate. cancelled CASE [THREADS] */
#include "scopes.h"

static sem_t reached;
static long cleaned, returned;
static void *escaped_of[4096];
static volatile unsigned spun;

static void cleanup_inside(void *unused)
{
	(void)unused;
	inside();
	COUNT(cleaned);
}

static void cleanup_outside(void *unused)
{
	(void)unused;
	outside();
	COUNT(cleaned);
}

SITE static void m_waits(long index)
{
	struct timespec long_time = {60, 0};
	pthread_cleanup_push(cleanup_inside, NULL);
	inside();
	escaped_of[index] = escaping();
	sem_post(&reached);
	nanosleep(&long_time, NULL);
	pthread_cleanup_pop(0);
	COUNT(returned);
}

SITE static void m_outer(long index)
{
	inside();
	m_waits(index);
	COUNT(returned);
}

SITE static void m_exits(long index)
{
	pthread_cleanup_push(cleanup_inside, NULL);
	inside();
	escaped_of[index] = escaping();
	pthread_exit(&cleaned);
	pthread_cleanup_pop(0);
}

SITE static void m_tests(long index)
{
	inside();
	escaped_of[index] = escaping();
	sem_post(&reached);
	for (;;)
		pthread_testcancel();
}

/* Small and called all the time: wherever the thread is interrupted, its handlers run. */
SITE static unsigned m_spins(unsigned value)
{
	return value * 2654435761u + 1;
}

static void spin(long index)
{
	(void)index;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	unsigned value = 1;
	for (;;)
		spun = value = m_spins(value);
}

static void (*marked)(long);
static bool is_spinning;

static void *worker(void *index)
{
	outside();
	COUNT(scopes_begun);
	pthread_cleanup_push(cleanup_outside, NULL);
	if (is_spinning)
		sem_post(&reached);
	marked((long)index);
	pthread_cleanup_pop(0);
	COUNT(returned);
	return index;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*marked)(long);
		bool cancels, spins;
	} cases[] = {{"waits", m_waits, true, false},
		     {"two", m_outer, true, false},
		     {"tests", m_tests, true, false},
		     {"exits", m_exits, false, false},
		     {"anywhere", spin, true, true}};
	long count = number(argv, 2, 100);
	bool cancels = false;
	(void)argc;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (!strcmp(argv[1], cases[i].name)) {
			marked = cases[i].marked;
			cancels = cases[i].cancels;
			is_spinning = cases[i].spins;
		}
	CHECK(marked && count <= 4096);
	sem_init(&reached, 0, 0);
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		void *result = NULL;
		CHECK(pthread_create(&thread, NULL, worker, (void *)i) == 0);
		if (cancels) {
			sem_wait(&reached);
			if (is_spinning)
				usleep((useconds_t)(i % 7 * 37));
			pthread_cancel(thread);
		}
		CHECK(pthread_join(thread, &result) == 0);
		CHECK(result == (cancels ? PTHREAD_CANCELED : (void *)&cleaned));
		free(escaped_of[i]);
	}
	printf("cleaned %ld returned %ld\n", cleaned, returned);
	return finish();
}
