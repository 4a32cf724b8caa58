/* looks_at_modules KIND LIBRARY: one thread looks at the modules and waits there for a lock. Who holds the lock allocates
   meanwhile, by a new path, with KIND "hard" below a frame that no frame or stack pointer leads out of. The library was
   opened just before, by a third; with "closing" that is closing it, and waits for who looks. Who looks at the modules in
   malloc now waits for ever: the alarm ends it. */
#include "by_rbx.h"
#include "common.h"

#include <dlfcn.h>
#include <link.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t held, inside;
static const char *kind;

static int look(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)info, (void)bytes, (void)context;
	sem_post(&inside); /* for who allocates, and for who closes */
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
	if (!strcmp(kind, "closing"))
		usleep(300000); /* it has come to the lock by now, nothing tells */
	if (!strcmp(kind, "hard"))
		below_by_rbx(meanwhile);
	else
		meanwhile();
	pthread_mutex_unlock(&lock);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t looking, allocating;
	(void)argc;
	kind = argv[1];
	alarm(5);
	sem_init(&held, 0, 0);
	sem_init(&inside, 0, 0);
	pthread_create(&allocating, NULL, allocates, NULL);
	sem_wait(&held);
	void *library = dlopen(argv[2], RTLD_NOW);
	CHECK(library);
	pthread_create(&looking, NULL, looks, NULL);
	if (!strcmp(kind, "closing")) {
		sem_wait(&inside);
		dlclose(library);
	}
	pthread_join(looking, NULL);
	pthread_join(allocating, NULL);
	return failures;
}
