/*
 * screens KIND TURNS: loops that show pictures, by a library that is loaded where only its loader sees it. $GAME is that
 * library; what it needs lies beside it. Each prints how often it called what.
 */
#include "common.h"
#include <dlfcn.h>
#include <sys/mman.h>

static long presented, swapped, slept;
static void (*game_present)(void), (*game_swap)(void);
static void *kept;

static void *load(void)
{
	void *game = dlopen(getenv("GAME"), RTLD_NOW | RTLD_LOCAL);
	if (!game)
		dprintf(2, "%s\n", dlerror());
	CHECK(game && (game_present = (void (*)(void))dlsym(game, "game_present")));
	CHECK(game && (game_swap = (void (*)(void))dlsym(game, "game_swap")));
	CHECK(!dlsym(RTLD_DEFAULT, "SDL_RenderPresent"));
	return game;
}

static void pause_us(long us)
{
	struct timespec time = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&time, NULL);
	slept++;
}

SITE void draw(void)
{
	free(malloc(100));
	free(kept);
	kept = malloc(40);
}

static void present(int n)
{
	for (; n--; presented++, draw(), pause_us(2000))
		game_present();
}
static void loop_present(int n)
{
	load(), present(n);
}
static void loop_swap(int n)
{
	load();
	for (; n--; swapped++, draw(), pause_us(2000))
		game_swap();
}
/* A loading screen that sleeps, long enough to be taken, then the game. */
static void loop_loading(int n)
{
	for (int i = 0; i < 150; i++)
		draw(), pause_us(3000);
	load();
	present(n);
}
/* The program's own loop sleeps at twice the pace of its renderer. */
static void *renderer(void *count)
{
	pthread_setname_np(pthread_self(), "render");
	for (long i = 0; i < (long)(intptr_t)count; i++, presented++) {
		struct timespec time = {0, 4000000};
		free(malloc(100));
		game_present();
		clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
	}
	return NULL;
}
static void loop_render_thread(int n)
{
	pthread_t thread;
	load();
	pthread_create(&thread, NULL, renderer, (void *)(intptr_t)n);
	while (n--)
		draw(), pause_us(2000), pause_us(2000);
	pthread_join(thread, NULL);
}
/* The sleeping main thread is taken at first; the renderer comes later. */
static void loop_late_render_thread(int n)
{
	pthread_t thread;
	for (int i = 0; i < 150; i++)
		draw(), pause_us(3000);
	load();
	pthread_create(&thread, NULL, renderer, (void *)(intptr_t)n);
	for (int i = 0; i < n; i++)
		draw(), pause_us(3000);
	pthread_join(thread, NULL);
}
/* A loading screen of a few pictures by the main thread, then a renderer shows the rest. */
static void loop_handed_over(int n)
{
	pthread_t thread;
	load();
	present(20);
	pthread_create(&thread, NULL, renderer, (void *)(intptr_t)n);
	pthread_join(thread, NULL);
}
/* The renderer is closed and opened again, elsewhere, as when a player changes the resolution. */
static void loop_restarted(int n)
{
	for (int round = 0; round < 3; round++) {
		void *game = load();
		uintptr_t place = (uintptr_t)game_present & ~4095ul;
		present(n / 3);
		CHECK(!dlclose(game));
		if (round)
			mmap((void *)place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	}
}
/* One picture now and then: no loop. */
static void loop_few(int n)
{
	(void)n;
	load();
	present(3);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		void (*run)(int);
	} kinds[] = {{"present", loop_present},
		     {"swap", loop_swap},
		     {"loading", loop_loading},
		     {"render-thread", loop_render_thread},
		     {"late-render-thread", loop_late_render_thread},
		     {"handed-over", loop_handed_over},
		     {"restarted", loop_restarted},
		     {"few", loop_few}};
	bool known = false;
	for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].kind)) {
			kinds[i].run(atoi(argv[2]));
			known = true;
		}
	CHECK(known);
	free(kept);
	printf("%ld presented, %ld swapped, %ld slept\n", presented, swapped, slept);
	return failures;
}
