/*
 * One full walk from a hook's frame to the outermost one, and what it takes to know later that it would go the same way.
 *
 * A check says: the 8 bytes at frame address + offset hold this value. Bit 0 of the offset tells a frame pointer from a
 * return address. Checks are in walking order: the place of each is fixed by those before it, so a reader who stops at the
 * first difference reads only real slots.
 */
#ifndef FA_PATH_WALK_H
#define FA_PATH_WALK_H

#include "core/base.h"
#include "core/path/path.h"

#define WALK_CHECKS(frames) (3 * (frames) + 2) /* at most */
#define WALK_CHECKS_MAX WALK_CHECKS(PATH_DEPTH_MAX)
#define WALK_POINTER 1
#define WALK_ADDRESS_BITS 47 /* of what a program's stacks and code have; more is asked for by address only */

/* A frame on the way; what the next one is follows from these and from the checks of the step. */
struct walk_frame {
	uintptr_t pc, sp;
	uintptr_t rbp_at; /* where its rbp was read from; 0 = not from the stack */
	uint32_t checks; /* made before the step from here */
	bool rbp_checked;
	bool steps_by_row;
};

/* With frames, a walk takes over from `last` what has not changed since: a step from the same frame, all of whose checks
   hold, leads where it led. `last` was cacheable, and no module came or went since. */
struct walk {
	uintptr_t *pcs;
	size_t max, count;
	bool cut, failed;

	/* The walk ends at the frame of this stack pointer, or where that would be; 0: it goes on. Nothing is kept on the way but the
	   pc of the frame before, in pcs[0]. */
	uintptr_t sought;
	uintptr_t sought_pc; /* of that frame; 0: it was not found */

	/* With `offsets` NULL nothing below is filled in; else there is room for WALK_CHECKS(max). */
	int32_t *offsets;
	uint64_t *values;
	struct walk_frame *frames;
	const struct walk *last;
	uint64_t readable; /* pages from that of the frame address on that were just read, a bit each */
	uintptr_t base; /* what offsets count from: the frame address */
	size_t checks;
	bool cacheable; /* the checks determine the path */
	size_t common; /* the last so many checks are those that `last` ends with */
	/* The path ended at code without unwind information because rbp, found at `guess_slot`, was no frame pointer for
	   a stack pointer at `guess_sp`: the checks hold only as long as it still is none. */
	int32_t guess_slot, guess_sp;
	/* Where the return address of the first frame beyond the cap lies, told by a row; 0: nothing was cut, or by no row. */
	int32_t beyond;
	bool guessed;
};

/* Room for a walk of up to so many frames, and a walk in it. */
#define WALK_ROOM(frames_max)                                                                                          \
	struct {                                                                                                       \
		uintptr_t pcs[frames_max];                                                                             \
		struct walk_frame frames[frames_max];                                                                  \
		int32_t offsets[WALK_CHECKS(frames_max)];                                                              \
		uint64_t values[WALK_CHECKS(frames_max)];                                                              \
	}
#define WALK_IN(room)                                                                                                  \
	((struct walk){.pcs = (room).pcs,                                                                              \
		       .max = sizeof(room).pcs / sizeof(room).pcs[0],                                                  \
		       .frames = (room).frames,                                                                        \
		       .offsets = (room).offsets,                                                                      \
		       .values = (room).values})

void walk_run(const uintptr_t *fp, struct walk *walk);
/* Whether rbp looks like the frame pointer of code without unwind information. */
bool walk_frame_pointer_plausible(uintptr_t sp, uintptr_t rbp);
/* Opens libunwind for the frames that rows cannot express. -ENOENT when there is none. */
int walk_init(size_t depth_max);

#endif
