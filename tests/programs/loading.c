/* A game that loads a level in its first frames: by each of many call paths, once, it makes one block that stays and others that
   go at once. Then it plays: the same few paths each frame, and what they make dies in it, but for the very first. Or,
   "again", some hundreds of paths make something in each frame that stays for eight. Or, "sizes", paths make blocks of no
   bytes, and of many, while it loads. */
#include "paths.h"

enum { PATHS = 12000, LOADING_FRAMES = 4, PLAYED_FRAMES = 400, BESIDE = 60, DRAWN = 500 };

static void *stays[PATHS];

SITE void load(int path)
{
	void *beside[BESIDE];
	for (int i = 0; i < BESIDE; i++)
		beside[i] = malloc(100);
	stays[path] = left((unsigned)path * 2654435761u, 14);
	for (int i = 0; i < BESIDE; i++)
		free(beside[i]);
}

SITE void draw(void)
{
	static void *stayed;
	void *drawn[DRAWN];
	for (int i = 0; i < DRAWN; i++)
		drawn[i] = malloc(60);
	if (!stayed) {
		stayed = drawn[0];
		drawn[0] = NULL;
	}
	for (int i = 0; i < DRAWN; i++)
		free(drawn[i]);
}

static void keep_on(void)
{
	enum { OFTEN = 600, STAY = 8 };
	static void *kept[STAY][OFTEN];
	for (int frame = 0; frame < 120; frame++) {
		for (int path = 0; path < OFTEN; path++) {
			free(kept[frame % STAY][path]);
			load(path);
			kept[frame % STAY][path] = stays[path];
		}
		frame_mark();
	}
}

SITE void *mixed(size_t bytes)
{
	void *p = malloc(bytes);
	__asm__ volatile("" : "+r"(p));
	return p;
}

SITE void *large(void)
{
	void *p = malloc(9000);
	__asm__ volatile("" : "+r"(p));
	return p;
}

static void sizes(void)
{
	enum { MIXED = 200 };
	static volatile size_t bytes[MIXED]; /* none for the first two, which are born before and after the paths */
	void *made[MIXED];
	for (volatile int i = 0; i < MIXED; i++) { /* one call, whatever the compiler thinks of the first two */
		bytes[i] = i < 2 ? 0 : 48;
		for (int path = 0; i == 1 && path < PATHS; path++)
			load(path);
		made[i] = mixed(bytes[i]);
	}
	for (int i = 0; i < MIXED; i++)
		free(made[i]);
	for (int frame = 0; frame < 100; frame++) {
		for (int i = 0; i < 10; i++)
			free(large());
		frame_mark();
	}
}

int main(int argc, char **argv)
{
	frame_mark();
	if (argc > 1) {
		(!strcmp(argv[1], "again") ? keep_on : sizes)();
		return 0;
	}
	for (int path = 0; path < PATHS; path++) {
		load(path);
		if ((path + 1) % (PATHS / LOADING_FRAMES) == 0)
			frame_mark();
	}
	for (int i = 0; i < PLAYED_FRAMES; i++) {
		draw();
		frame_mark();
	}
	for (int path = 0; path < PATHS; path++)
		free(stays[path]);
	return 0;
}
