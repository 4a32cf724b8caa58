/* Five tasks whose state lies in an array of the program: only close_state tells their end. Each keeps a block. */
#include "common.h"

static struct state {
	char place[40];
	void *kept;
} states[5];

SITE void poll_state(struct state *state)
{
	if (!state->kept)
		state->kept = malloc(30);
}

SITE void close_state(struct state *state)
{
	poll_state(state); /* no poll: the task is ending */
}

int main(void)
{
	for (int turn = 0; turn < 3; turn++)
		for (int i = 0; i < 5; i++)
			poll_state(&states[i]);
	for (int i = 0; i < 5; i++)
		close_state(&states[i]);
	for (int i = 0; i < 5; i++)
		free(states[i].kept);
	return failures;
}
