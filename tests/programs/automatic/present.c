/* Stands for a library that shows pictures. */
#include <stdlib.h>

void SDL_RenderPresent(void *renderer)
{
	free(malloc(renderer ? 10 : 20));
}
