/* Blocks of every small size that are made larger, smaller and left as they are, in random turns; each byte is checked. Prints
   how many blocks were born, and the bytes that they were asked for. Arguments: how many turns, "frame" to mark a frame in every
   hundredth. */
#include "common.h"

#define BLOCKS 64
#define LARGEST 9000

static unsigned char *block[BLOCKS];
static size_t bytes[BLOCKS];
static unsigned long born, asked;
static uint32_t seed = 1;

static unsigned next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static unsigned char at(int which, size_t i)
{
	return (unsigned char)(i * 7 + (unsigned)which * 31);
}

static size_t new_size(size_t old)
{
	unsigned way = next_random() % 8;
	size_t near = old + next_random() % 16, steep = 1 + next_random() % LARGEST;
	return way < 3 ? near : way < 5 ? 1 + old / 2 : way < 6 ? old : steep;
}

SITE static void resize_block(int which)
{
	size_t old = bytes[which], wanted = old ? new_size(old) : 1 + next_random() % 600;
	wanted = wanted > LARGEST ? LARGEST : wanted;
	unsigned char *made = realloc(block[which], wanted);
	for (size_t i = 0; i < (old < wanted ? old : wanted); i++)
		CHECK(made[i] == at(which, i));
	for (size_t i = 0; i < wanted; i++)
		made[i] = at(which, i);
	block[which] = made;
	bytes[which] = wanted;
	born++;
	asked += wanted;
}

int main(int argc, char **argv)
{
	long turns = argc > 1 ? atol(argv[1]) : 1000;
	for (long turn = 0; turn < turns && !failures; turn++) {
		int which = (int)(next_random() % BLOCKS);
		if (argc > 2 && turn % 100 == 0)
			frame_mark();
		if (next_random() % 32 == 0) {
			free(block[which]);
			block[which] = NULL;
			bytes[which] = 0;
		} else {
			resize_block(which);
		}
	}
	for (int which = 0; which < BLOCKS; which++)
		free(block[which]);
	printf("%lu %lu\n", born, asked);
	return failures != 0;
}
