/* A game in a library of its own that needs libSDL2-2.0.so.0: what a script language's SDL module is. */
#include <stdlib.h>

void SDL_RenderPresent(void *renderer);
void SDL_GL_SwapWindow(void *window);

void game_present(void)
{
	SDL_RenderPresent(NULL);
}
void game_swap(void)
{
	SDL_GL_SwapWindow(NULL);
}
