/* What a program may do with the memory that malloc gave it, and with itself. The first argument says which. */
#include "common.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>

#define PAGE 4096u
#define MIB ((size_t)1 << 20)

static char *grown(size_t bytes)
{
	return realloc(malloc(600000), bytes);
}

/* Address space is given back, whatever a block has grown to. */
static void grow_and_free(void)
{
	for (int i = 0; i < 7000; i++) {
		char *block = grown(100 * MIB + 100 + (size_t)i % 3 * 70000);
		CHECK(block);
		if (failures)
			return;
		block[0] = 1;
		free(block);
	}
	void *large = malloc(200 * MIB);
	CHECK(large);
	free(large);
}

/* The kernel reads no more than 15 letters. */
static void name_at_the_end_of_a_page(void)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), seen[16];
	CHECK(pages != MAP_FAILED && !mprotect(pages + PAGE, PAGE, PROT_NONE));
	CHECK(!prctl(PR_SET_NAME, memcpy(pages + PAGE - 15, "fifteen-letters", 15)));
	CHECK(!prctl(PR_GET_NAME, seen) && !strcmp(seen, "fifteen-letters"));
	CHECK(!prctl(PR_SET_NAME, "a-very-long-name-of-a-thread"));
}

static void *same(void *argument)
{
	return argument;
}

/* An address after a guard page is handed to a thread. */
static void guard_before_argument(void)
{
	char *memory = NULL;
	void *result = NULL;
	pthread_t thread;
	CHECK(posix_memalign((void **)&memory, PAGE, MIB) == 0 && mprotect(memory, PAGE, PROT_NONE) == 0);
	CHECK(pthread_create(&thread, NULL, same, memory + PAGE) == 0 && pthread_join(thread, &result) == 0);
	CHECK(result == memory + PAGE);
	CHECK(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0);
	free(memory);
}

static ucontext_t outside, coroutine;
static int visits;

static void visit(void)
{
	free(malloc(100));
	visits++;
}

/* A coroutine's stack has one below it. */
static void guard_below_stack(void)
{
	char *memory = NULL;
	CHECK(posix_memalign((void **)&memory, PAGE, MIB) == 0 && mprotect(memory, PAGE, PROT_NONE) == 0);
	CHECK(getcontext(&coroutine) == 0);
	coroutine.uc_stack.ss_sp = memory + PAGE;
	coroutine.uc_stack.ss_size = MIB - PAGE;
	coroutine.uc_link = &outside;
	makecontext(&coroutine, visit, 0);
	CHECK(swapcontext(&outside, &coroutine) == 0 && visits == 1);
	CHECK(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0);
	free(memory);
}

/* A child in this memory limits itself, not us. */
static void limit_in_vfork(void)
{
	struct rlimit limit = {1024 * MIB, 1024 * MIB};
	pid_t child = vfork();
	if (!child) {
		setrlimit(RLIMIT_AS, &limit);
		_exit(0);
	}
	CHECK(waitpid(child, NULL, 0) == child);
	for (int i = 0; i < 2000; i++)
		CHECK(malloc(MIB));
}

/* Where the kernel allows no mapping more, calloc's memory is zero still. Says "unfilled" where it allows them all. */
static void calloc_without_mappings(void)
{
	char *block[6];
	for (int i = 0; i < 6; i++) {
		block[i] = grown(8 * MIB + 100 + (size_t)i);
		CHECK(block[i]);
		memset(block[i], 0x5a, 8 * MIB);
	}
	const size_t pairs = 150000;
	char *many = mmap(NULL, 2 * pairs * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t made = 0;
	while (made < pairs && mprotect(many + 2 * made * PAGE, PAGE, PROT_READ) == 0)
		made++;
	if (made == pairs)
		puts("unfilled");
	for (int i = 1; i < 5; i += 2)
		free(block[i]);
	for (size_t mib = 4; mib < 8; mib++) {
		char *zero = calloc(1, mib * MIB);
		for (size_t i = 0; zero && i < mib * MIB; i++)
			if (zero[i]) {
				CHECK(!"calloc gave memory that is not zero");
				break;
			}
	}
}

/* Not one: a free of what lies behind a block. */
static void free_behind_a_block(void)
{
	char *block = grown(MIB + 100);
	CHECK(block);
	uintptr_t behind = ((uintptr_t)block + MIB + 3 * PAGE) & ~(uintptr_t)15;
	__asm__ volatile("" : "+r"(behind));
	free((void *)behind);
	free(block);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {{"grow", grow_and_free},
		   {"guard-argument", guard_before_argument},
		   {"guard-stack", guard_below_stack},
		   {"vfork-limit", limit_in_vfork},
		   {"mappings", calloc_without_mappings},
		   {"free-behind", free_behind_a_block},
		   {"name", name_at_the_end_of_a_page}};
	for (size_t i = 0; argc > 1 && i < sizeof all / sizeof *all; i++)
		if (!strcmp(argv[1], all[i].name)) {
			all[i].run();
			return failures != 0;
		}
	return 2;
}
