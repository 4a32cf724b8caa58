/* A plugin on the real libSDL2 (its headers are not asked for): dummy_play shows so many pictures. */
#include <time.h>

int SDL_Init(unsigned flags);
void *SDL_CreateWindow(const char *title, int x, int y, int w, int h, unsigned flags);
void *SDL_CreateRenderer(void *window, int index, unsigned flags);
int SDL_RenderClear(void *renderer);
void SDL_RenderPresent(void *renderer);
void SDL_Quit(void);

int dummy_play(int pictures)
{
	void *window, *renderer;
	if (SDL_Init(0x20) || !(window = SDL_CreateWindow("x", 0, 0, 64, 48, 0)) ||
	    !(renderer = SDL_CreateRenderer(window, -1, 1)))
		return -1;
	for (int i = 0; i < pictures; i++) {
		struct timespec time = {0, 2000000};
		SDL_RenderClear(renderer);
		SDL_RenderPresent(renderer);
		nanosleep(&time, NULL);
	}
	SDL_Quit();
	return pictures;
}
