/* Prints resident MiB: with much small memory, after it was freed, and with as much of another size. The memory is that of a
   thread, which has ended by then, or with `main` the program's own. */
#include "common.h"

#define COUNT 1000000

static void **blocks;

static void *make(void *size)
{
	for (size_t i = 0; i < COUNT; i++)
		memset(blocks[i] = malloc(*(size_t *)size), 1, *(size_t *)size);
	return NULL;
}

static void give(void)
{
	for (size_t i = 0; i < COUNT; i++)
		free(blocks[i]);
}

int main(int argc, char **argv)
{
	size_t first = 100, second = 200;
	long with, without;
	pthread_t thread;
	blocks = calloc(COUNT, sizeof *blocks);
	if (argc > 1 && !strcmp(argv[1], "main"))
		make(&first);
	else if (pthread_create(&thread, NULL, make, &first) || pthread_join(thread, NULL))
		return 3;
	with = resident_kib() / 1024;
	give();
	without = resident_kib() / 1024;
	make(&second);
	printf("%ld %ld %ld\n", with, without, resident_kib() / 1024);
	give();
	return 0;
}
