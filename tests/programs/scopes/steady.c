/* A million scopes, by every way out, leave nothing behind: resident memory stands still. steady [COUNT] */
#include "scopes.h"

#include <setjmp.h>

static jmp_buf back;
static volatile long sum;

SITE static void m_work(long value)
{
	inside();
	sum += value;
	if (value % 3 == 1)
		longjmp(back, 1);
}

SITE static void m_outer(long value)
{
	m_work(value);
	sum ^= value;
}

static void *last_words(void *argument)
{
	COUNT(scopes_begun);
	m_work(3);
	pthread_exit(argument);
}

static long resident(void)
{
	long pages = 0, all = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	CHECK(file && fscanf(file, "%ld %ld", &all, &pages) == 2);
	fclose(file);
	return pages * 4;
}

static void rounds(long count)
{
	for (volatile long i = 0; i < count; i++) {
		scopes_begun++;
		if (!setjmp(back))
			(i % 2 ? m_work : m_outer)(i);
	}
	for (long i = 0; i < count / 1000; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, last_words, NULL) == 0);
		pthread_join(thread, NULL);
	}
}

int main(int argc, char **argv)
{
	long count = number(argv, 1, 1000000);
	(void)argc;
	outside();
	rounds(count / 5);
	long before = resident();
	rounds(count - count / 5);
	long grown = resident() - before;
	if (grown > 2048)
		printf("grown by %ld KiB\n", grown);
	outside();
	printf("%ld\n", sum);
	return finish();
}
