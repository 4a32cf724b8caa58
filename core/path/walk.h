/*
 * One full walk from a hook's frame to the outermost one, and what it takes to know later that it would go the same way.
 *
 * A check says: the 8 bytes at frame address + offset hold this value. Bit 0 of the offset set: the value is relative to
 * the frame address (a frame pointer); clear: it is absolute (a return address). Checks are in walking order: the place
 * of each is fixed by those before it, so a reader who stops at the first difference reads only real slots.
 */
#ifndef FA_PATH_WALK_H
#define FA_PATH_WALK_H

#include "core/base.h"
#include "core/path/path.h"

#define WALK_CHECKS_MAX (PATH_DEPTH_MAX * 3 + 2)
#define WALK_RELATIVE 1

struct walk {
	uintptr_t *pcs;
	size_t max, count;
	bool cut, failed;

	/* With `offsets` NULL nothing below is filled in. */
	int32_t *offsets;
	uint64_t *values;
	size_t checks;
	bool has_relative;
	bool cacheable; /* the checks determine the path */
	/* The path ended at code without unwind information because rbp, found at `guess_slot`, was no frame pointer for
	   a stack pointer at `guess_sp`: the checks hold only as long as it still is none. */
	int32_t guess_slot, guess_sp;
	bool guessed;
};

void walk_run(const uintptr_t *fp, struct walk *walk);
/* Whether rbp looks like the frame pointer of code without unwind information. */
bool walk_frame_pointer_plausible(uintptr_t sp, uintptr_t rbp);
/* Opens libunwind for the frames that rows cannot express. -ENOENT when there is none. */
int walk_init(size_t depth_max);

#endif
