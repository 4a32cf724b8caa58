/* A frame boundary that is reached within the last one. Arguments: recursive: it calls itself, to any depth. apart: it is called
   from deep in the stack in turn with not so deep, where what the last call left on the stack lies untouched. jumped: the place
   that first calls something which jumps to it then calls something which calls it. levels: 50 calls from another marked function
   each time. LIBRARY: it is called in a library that passes the call on to one of the same name in another. Prints how many calls
   from outside there were. */
#include "common.h"

#include <dlfcn.h>

__attribute__((noinline, noipa)) void frame_tick(int depth)
{
	free(malloc(24));
	if (depth)
		frame_tick(depth - 1);
	__asm__ volatile("");
}

/* `room` reaches over all that an earlier call has left there, and is not written. */
static __attribute__((noinline, noipa)) void apart(int bytes)
{
	volatile char room[bytes];
	__asm__ volatile("" : : "r"(room));
	frame_tick(0);
	__asm__ volatile("" : : "r"(room));
}

static __attribute__((noinline, noipa, optimize("optimize-sibling-calls"))) void present(int waits)
{
	if (waits) {
		frame_tick(0);
		__asm__ volatile("" ::: "memory");
		return;
	}
	frame_tick(0);
}

static __attribute__((noinline, noipa)) void frame_level(void)
{
	for (int turn = 0; turn < 50; turn++)
		frame_tick(0);
	__asm__ volatile("");
}

int main(int argc, char **argv)
{
	int calls = 0;
	const char *what = argc > 1 ? argv[1] : "recursive";
	void (*tick)(int) = frame_tick;
	if (what[0] == '/') {
		void *library = dlopen(what, RTLD_NOW | RTLD_LOCAL);
		tick = library ? (void (*)(int))dlsym(library, "frame_tick") : NULL;
		if (!tick)
			return 2;
	}
	for (int turn = 0; turn < 100; turn++) {
		if (!strcmp(what, "apart")) {
			apart(64);
			apart(4096);
			calls += 2;
		} else if (!strcmp(what, "jumped")) {
			present(turn);
			calls++;
		} else if (!strcmp(what, "levels")) {
			frame_level();
			calls += 51;
		} else {
			tick(what[0] == '/' ? 0 : turn * 2);
			calls++;
		}
	}
	printf("%d\n", calls);
	return 0;
}
