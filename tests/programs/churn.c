/* One frame that allocates and frees COUNT blocks: in the order of their making, in reverse, and in windows. */
#include "common.h"

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 10000000;
	void *window[16] = {0};
	frame_mark();
	for (long i = 0; i < count / 4; i++)
		free(malloc((size_t)(i % 300)));
	for (long i = 0; i < count / 4; i++) { /* oldest first: a bump pointer alone would run away */
		free(window[i & 15]);
		window[i & 15] = malloc((size_t)(i % 300));
	}
	for (long i = 0; i < count / 16; i++) { /* a long-lived block among them pins its span only */
		for (int k = 0; k < 4; k++)
			window[k + 4] = (free(window[k + 4]), malloc((size_t)(k * 900)));
		for (int k = 3; k >= 0; k--)
			window[k + 4] = (free(window[k + 4]), malloc((size_t)(k * 70)));
	}
	for (int i = 0; i < 16; i++)
		free(window[i]);
	frame_mark();
	return 0;
}
