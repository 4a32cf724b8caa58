/* A signal handler that allocates and frees between every two instructions of malloc, realloc and free: the trap flag stops
   after each, and at each in turn the handler does its work. No two blocks that live may lie on one another. Prints how many
   places there were, by operation. Arguments: "frame" to do it within frames. */
#include "common.h"

#include <ucontext.h>

#define SIZE 48
#define STEP_ON() __asm__ volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc")
#define STEP_OFF() __asm__ volatile("sub $128, %%rsp; pushf; andl $~0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc")

static volatile long steps, target;
static char *volatile kept; /* by the handler */

static char *fill(char *block, char letter)
{
	return memset(block, letter, SIZE);
}

static void trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	if (++steps != target)
		return;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
	free(malloc(SIZE));
	kept = fill(malloc(SIZE), 'k');
}

static void whole(char *block, char letter)
{
	for (int i = 0; block && i < SIZE; i++)
		CHECK(block[i] == letter);
}

static SITE char *operate(int operation, char *block)
{
	char *made = NULL;
	STEP_ON();
	if (operation == 0)
		free(block);
	else if (operation == 1)
		made = malloc(SIZE);
	else
		made = realloc(block, operation == 2 ? SIZE + 32 : SIZE); /* moves, or stays */
	STEP_OFF();
	return made;
}

int main(int argc, char **argv)
{
	(void)argv;
	struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &action, NULL);
	for (int operation = 0; operation < 4; operation++) {
		for (target = 1, kept = fill(malloc(SIZE), 'k'); kept && !failures; target++) {
			free(kept);
			if (argc > 1)
				frame_mark();
			free(malloc(SIZE)); /* what is done at a site's first birth in a frame is done */
			char *block = operation == 1 ? NULL : fill(malloc(SIZE), 'b'), *after[4];
			kept = NULL;
			steps = 0;
			char *made = operate(operation, block);
			if (operation >= 2)
				whole(made, 'b');
			if (made)
				fill(made, 'm');
			for (int i = 0; i < 4; i++)
				after[i] = fill(malloc(SIZE), 'a');
			whole(kept, 'k');
			whole(made, 'm');
			for (int i = 0; i < 4; i++) {
				whole(after[i], 'a');
				free(after[i]);
			}
			free(made);
		}
		printf("%ld\n", target);
	}
	return failures != 0;
}
