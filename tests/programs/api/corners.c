/* corners CASE: rare ways through the C API. Prints what it saw and the figures; the same with and without the shim. */
#include <pthread.h>
#include <stdio.h>

#include "framealloc.h"

__attribute__((noinline, noipa, used)) void present(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
}

/* A marker's boundary inside a frame of the API leaves that frame's blocks alone. */
static void boundary_inside(void)
{
	char seen[5] = "";
	fa_frame_begin();
	char *mine = fa_frame_alloc(100);
	strcpy(mine, "mine");
	present();
	memset(fa_frame_alloc(100), 'x', 100);
	memcpy(seen, mine, 4);
	fa_frame_end();
	puts(seen);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
	        {"boundary-inside", boundary_inside},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (argc > 1 && !strcmp(argv[1], cases[i].name))
			cases[i].run();
	fa_stats_t stats;
	fa_stats(&stats);
	printf("frame %d %d, other %d %d, frames %d, tasks %d %d, polls %d, misuse %d\n", (int)stats.frame.allocs,
	       (int)stats.frame.frees, (int)stats.other.allocs, (int)stats.other.frees, (int)stats.frames,
	       (int)stats.tasks_started, (int)stats.tasks_ended, (int)stats.polls, (int)stats.misuse);
	return 0;
}
