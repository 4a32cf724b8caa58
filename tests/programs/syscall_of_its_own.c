/* A library for LD_PRELOAD that brings its own syscall(), as torsocks does: it opens what it needs at first, with a lock held, and
   that allocates. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long (*next)(long number, ...);

static void find_next(void)
{
	pthread_mutex_lock(&lock);
	if (!next) {
		void *libc = dlopen("libc.so.6", RTLD_LAZY);
		*(void **)&next = dlsym(libc, "syscall");
	}
	pthread_mutex_unlock(&lock);
}

long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	find_next();
	return next(number, a, b, c, d, e, f);
}

__attribute__((constructor)) static void start(void)
{
	find_next();
}
