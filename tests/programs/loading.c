/* A game that loads a level in its first frames: by each of many call paths, once, it makes one block that stays and others that
   go at once. Then it plays: the same few paths each frame, and what they make dies in it. Or, with an argument, some hundreds of
   paths make something in each frame that stays for eight. */
#include "common.h"

enum { PATHS = 12000, LOADING_FRAMES = 4, PLAYED_FRAMES = 400, BESIDE = 60, DRAWN = 500 };

static void *stays[PATHS];

SITE void *left(unsigned path, int depth);

SITE void *right(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(48);
	__asm__ volatile("" : "+r"(p));
	return p;
}

SITE void *left(unsigned path, int depth)
{
	void *p = depth ? (path & 1 ? left : right)(path >> 1, depth - 1) : malloc(80);
	__asm__ volatile("" : "+r"(p));
	return p;
}

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
	void *drawn[DRAWN];
	for (int i = 0; i < DRAWN; i++)
		drawn[i] = malloc(60);
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

int main(int argc, char **argv)
{
	(void)argv;
	frame_mark();
	if (argc > 1) {
		keep_on();
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
