/* A signal handler that allocates and frees between every two instructions of malloc, realloc and free: the trap flag stops
   after each, and at each in turn the handler does its work. No two blocks that live may lie on one another. Prints how many
   places there were, by operation. Arguments: "frame" to do it within frames, "thread" for what the
   shim allocates for itself too: in pthread_create, of a thread that can't be had. */
#include "common.h"
#include "step.h"

#define SMALL 48
#define OWN 24 /* what pthread_create allocates */

static size_t size;
static pthread_attr_t too_large;
static volatile long steps, target;
static char *volatile kept; /* by the handler */

static char *fill(char *block, char letter)
{
	return memset(block, letter, size);
}

static void trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	if (++steps != target)
		return;
	step_no_more(context);
	free(malloc(size));
	kept = fill(malloc(size), 'k');
}

static void whole(char *block, char letter)
{
	for (size_t i = 0; block && i < size; i++)
		if (block[i] != letter) {
			CHECK(!"a block that was written to");
			return;
		}
}

static SITE char *operate(int operation, char *block)
{
	char *made = NULL;
	pthread_t thread;
	int error = 0;
	STEP_ON();
	if (operation == 0)
		free(block);
	else if (operation == 1)
		made = malloc(size);
	else if (operation == 4)
		error = pthread_create(&thread, &too_large, NULL, NULL);
	else
		made = realloc(block, operation == 2 ? size + 32 : size); /* moves, or stays */
	STEP_OFF();
	CHECK(operation != 4 || error);
	return made;
}

int main(int argc, char **argv)
{
	const char *argument = argc > 1 ? argv[1] : "";
	bool in_frames = !strcmp(argument, "frame");
	int operations = !strcmp(argument, "thread") ? 5 : 4;
	size = operations == 5 ? OWN : SMALL;
	pthread_attr_init(&too_large);
	CHECK(!pthread_attr_setstacksize(&too_large, 1ul << 46));
	struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &action, NULL);
	for (int operation = 0; operation < operations; operation++) {
		for (target = 1, kept = fill(malloc(size), 'k'); kept && !failures; target++) {
			free(kept);
			if (in_frames)
				frame_mark();
			free(malloc(size)); /* what is done at a site's first birth in a frame is done */
			char *block = operation == 1 || operation == 4 ? NULL : fill(malloc(size), 'b'), *after[4];
			kept = NULL;
			steps = 0;
			char *made = operate(operation, block);
			if (operation == 2 || operation == 3)
				whole(made, 'b');
			if (made)
				fill(made, 'm');
			for (int i = 0; i < 4; i++)
				after[i] = fill(malloc(size), 'a');
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
