/* So many threads allocate a little and wait. Prints how many KiB of what is mapped by then the system may give in huge pages
   where it does so by default: whole 2 MiB of anonymous memory that nobody has asked small pages for. */
#include "common.h"

#define THREADS_MAX 1000
#define HUGE_BYTES (2ul << 20)

static pthread_barrier_t all;

static void *work(void *unused)
{
	char *block[8];
	for (int i = 0; i < 8; i++)
		block[i] = malloc((size_t)i * 20 + 10);
	pthread_barrier_wait(&all);
	pthread_barrier_wait(&all);
	for (int i = 0; i < 8; i++)
		free(block[i]);
	return unused;
}

static unsigned long whole_huge_pages(unsigned long start, unsigned long end)
{
	start = (start + HUGE_BYTES - 1) & -HUGE_BYTES;
	end &= -HUGE_BYTES;
	return start < end ? end - start : 0;
}

static unsigned long may_be_huge(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[1024], rights[8], path[512];
	unsigned long start, end, inode, bytes = 0, sum = 0;
	CHECK(smaps != NULL);
	while (smaps && fgets(line, sizeof line, smaps)) {
		path[0] = '\0';
		if (sscanf(line, "%lx-%lx %7s %*x %*s %lu %511s", &start, &end, rights, &inode, path) >= 4)
			bytes = inode || path[0] || strcmp(rights, "rw-p") ? 0 : whole_huge_pages(start, end);
		else if (!strncmp(line, "VmFlags:", 8) && !strstr(line, " nh"))
			sum += bytes;
	}
	if (smaps)
		fclose(smaps);
	return sum;
}

int main(int count, char **argument)
{
	static pthread_t thread[THREADS_MAX];
	int threads = count > 1 ? atoi(argument[1]) : 1;
	pthread_attr_t small_stack;
	pthread_attr_init(&small_stack);
	pthread_attr_setstacksize(&small_stack, 128 << 10);
	pthread_barrier_init(&all, NULL, (unsigned)threads + 1);
	for (int i = 0; i < threads; i++)
		CHECK(pthread_create(&thread[i], &small_stack, work, NULL) == 0);
	pthread_barrier_wait(&all);
	printf("%lu\n", may_be_huge() >> 10);
	pthread_barrier_wait(&all);
	for (int i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	return failures != 0;
}
