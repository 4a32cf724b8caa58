/* looks_at_modules LIBRARY: one thread looks at the modules and waits there for a lock. Who holds the lock allocates
   meanwhile, by a new path. The library was opened just before, by a third. Who looks at the modules in malloc now
   waits for ever: the alarm ends it. */
#include "common.h"

#include <dlfcn.h>
#include <link.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t held, inside;

static int look(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	sem_post(&inside);
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	return 1;
}

static void *looks(void *unused)
{
	dl_iterate_phdr(look, NULL);
	return unused;
}

SITE void first(void)
{
	free(malloc(10));
}

SITE void meanwhile(void)
{
	free(malloc(100));
}

static void *allocates(void *unused)
{
	first();
	pthread_mutex_lock(&lock);
	sem_post(&held);
	sem_wait(&inside);
	meanwhile();
	pthread_mutex_unlock(&lock);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t looking, allocating;
	(void)argc;
	alarm(5);
	sem_init(&held, 0, 0);
	sem_init(&inside, 0, 0);
	pthread_create(&allocating, NULL, allocates, NULL);
	sem_wait(&held);
	CHECK(dlopen(argv[1], RTLD_NOW));
	pthread_create(&looking, NULL, looks, NULL);
	pthread_join(looking, NULL);
	pthread_join(allocating, NULL);
	return failures;
}
