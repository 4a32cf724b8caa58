/*
 * A stand-in for libSDL2-2.0.so.0 (and, with GLX, for libGL.so.1): calls that show a picture. With SWAPS, SDL's call
 * makes GL's, as the real one does.
 */
#include <stdlib.h>

#ifdef GLX
__attribute__((noinline, noipa)) void glXSwapBuffers(void *display, unsigned long drawable)
{
	free(malloc(display ? 10 + drawable : 20));
}
#else
void glXSwapBuffers(void *display, unsigned long drawable) __attribute__((weak));

__attribute__((noinline, noipa)) void SDL_RenderPresent(void *renderer)
{
	free(malloc(renderer ? 10 : 20));
}

__attribute__((noinline, noipa)) void SDL_GL_SwapWindow(void *window)
{
	free(malloc(window ? 10 : 20));
	if (glXSwapBuffers)
		glXSwapBuffers(window, 1);
}
#endif
