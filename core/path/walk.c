/*
 * The walk: from frame to frame by the rows of cfi.c, through signal frames by their ucontext, through code without
 * unwind information by its frame pointer; libunwind takes over where a rule does not fit a row. Invariant: nothing is
 * read from the stack before its page is known to be readable, by the kernel or since who asks has just read it, and the stack
 * pointer only ever grows.
 */
#define _GNU_SOURCE
#include "core/path/walk.h"

#include <ucontext.h>

#include "core/path/cfi.h"
#include "core/path/module.h"
#include "core/path/unwinder.h"

#define GUESS_REACH (1u << 20)

static size_t depth_limit = PATH_DEPTH_MAX;

struct window {
	uintptr_t low, high;
	uintptr_t first; /* page */
	uint64_t known; /* pages from the first on, a bit each */
	uintptr_t code; /* page that holds what was taken for code; 0, which nothing is on: none yet */
};

static bool is_known(const struct window *window, uintptr_t address)
{
	uintptr_t page = (address - window->first) / PAGE_BYTES;
	return page < 64 && window->known >> page & 1;
}

/* Cost: two compares for the pages that were asked about last, one system call for each that nobody has told of. */
static bool readable(struct window *window, uintptr_t address)
{
	if (likely(address >= window->low && address < window->high))
		return !(address & 7);
	uintptr_t page = address & ~(uintptr_t)(PAGE_BYTES - 1);
	if (address & 7 || address < PAGE_BYTES || address >> WALK_ADDRESS_BITS ||
	    (!is_known(window, address) && !base_page_readable(address)))
		return false;
	if (page == window->high) {
		window->high += PAGE_BYTES;
	} else {
		window->low = page;
		window->high = page + PAGE_BYTES;
	}
	return true;
}

/* `address` was read. */
static void window_note(struct window *window, uintptr_t address)
{
	uintptr_t page = address & ~(uintptr_t)(PAGE_BYTES - 1);
	if (page == window->high)
		window->high += PAGE_BYTES;
	else if (page < window->low || page > window->high)
		window->low = page, window->high = page + PAGE_BYTES;
}

static uintptr_t load(uintptr_t address)
{
	return *(const uintptr_t *)address;
}

int walk_init(size_t depth_max)
{
	depth_limit = depth_max && depth_max < PATH_DEPTH_MAX ? depth_max : PATH_DEPTH_MAX;
	return unwinder_init();
}

struct frame {
	uintptr_t pc, sp, rbp;
	uintptr_t rbp_at; /* where rbp was read from; 0 = not from the stack */
	bool rbp_checked;
	bool exact; /* pc is the next instruction, not a return address */
};

static void check_add(struct walk *walk, const uintptr_t *fp, uintptr_t address, uint64_t value, bool is_pointer)
{
	if (!walk->offsets)
		return;
	walk->common = 0; /* the last one ended where this goes on */
	int64_t offset = (int64_t)(address - (uintptr_t)fp);
	if (offset < 0 || offset > INT32_MAX || walk->checks == WALK_CHECKS(walk->max)) {
		walk->cacheable = false;
		return;
	}
	int32_t check = (int32_t)offset | (is_pointer ? WALK_POINTER : 0);
	for (size_t i = walk->checks; i-- && i + 4 > walk->checks;)
		if ((walk->offsets[i] | WALK_POINTER) == (check | WALK_POINTER))
			walk->cacheable = false; /* each of four is another, in a tree */
	walk->offsets[walk->checks] = check;
	walk->values[walk->checks++] = value;
}

/* The path depends on the value of rbp from here on. */
static void check_rbp(struct walk *walk, const uintptr_t *fp, struct frame *frame)
{
	if (!frame->rbp_checked)
		check_add(walk, fp, frame->rbp_at, frame->rbp, true);
	frame->rbp_checked = true;
}

static bool is_readable_code(struct window *window, uintptr_t address)
{
	uintptr_t page = address & ~(uintptr_t)(PAGE_BYTES - 1);
	if (page != window->code && !base_page_readable(address))
		return false;
	window->code = page;
	return true;
}

/* Any word may stand where a frame pointer would have its return address. Cost: a hash and a load for a module's code that was
   asked about before, a system call for another page than the last. */
static bool may_return_to(struct window *window, uintptr_t pc)
{
	if (likely(cfi_is_after_call(pc)))
		return true;
	if (pc < PAGE_BYTES + CFI_CALL_BYTES_MAX || pc >> WALK_ADDRESS_BITS || module_says_data(pc) ||
	    !is_readable_code(window, pc - CFI_CALL_BYTES_MAX) || !is_readable_code(window, pc - 1) ||
	    !cfi_follows_call((const uint8_t *)pc))
		return false;
	cfi_note_after_call(pc);
	return true;
}

static bool plausible(struct window *window, uintptr_t sp, uintptr_t rbp)
{
	if (rbp & 7 || rbp < sp || rbp - sp > GUESS_REACH || !readable(window, rbp) || !readable(window, rbp + 8))
		return false;
	return may_return_to(window, load(rbp + 8));
}

bool walk_frame_pointer_plausible(uintptr_t sp, uintptr_t rbp)
{
	struct window window = {0};
	return plausible(&window, sp, rbp);
}

static bool step_signal(struct walk *walk, struct window *window, struct frame *frame)
{
	const ucontext_t *context = (const ucontext_t *)frame->sp;
	const greg_t *registers = context->uc_mcontext.gregs;
	walk->cacheable = false; /* the interrupted instruction is another one each time */
	if (!readable(window, frame->sp) || !readable(window, (uintptr_t)&registers[REG_RIP]))
		return false;
	*frame = (struct frame){.pc = (uintptr_t)registers[REG_RIP],
				.sp = (uintptr_t)registers[REG_RSP],
				.rbp = (uintptr_t)registers[REG_RBP],
				.exact = true};
	return true;
}

/* The frame pointer convention, where nothing better is known. False with `guessed` set: the path ends here. */
static bool row_guess(struct walk *walk, struct window *window, const uintptr_t *fp, const struct frame *frame,
		      struct cfi_row *row)
{
	if (plausible(window, frame->sp, frame->rbp)) {
		*row = (struct cfi_row){.kind = CFI_FP, .saved = CFI_AT_CFA, .fp_slot = -2, .cfa = 16};
		return true;
	}
	int64_t sp = (int64_t)(frame->sp - (uintptr_t)fp), slot = (int64_t)(frame->rbp_at - (uintptr_t)fp);
	if (sp > INT32_MAX || slot < 0 || slot > INT32_MAX)
		walk->cacheable = false;
	walk->guessed = true;
	walk->guess_sp = (int32_t)sp;
	walk->guess_slot = (int32_t)slot;
	return false;
}

/* From `frame` to its caller by `row`. False: the row leads nowhere. */
static bool step_row(struct walk *walk, struct window *window, const uintptr_t *fp, struct frame *frame,
		     struct cfi_row row)
{
	uintptr_t cfa = frame->sp + (uintptr_t)(intptr_t)row.cfa;
	if (row.kind != CFI_SP || row.saved == CFI_AT_FP)
		check_rbp(walk, fp, frame);
	if (row.kind != CFI_SP)
		cfa = frame->rbp + (uintptr_t)(intptr_t)row.cfa;
	if (row.kind == CFI_FP_LOADED) {
		if (!readable(window, cfa))
			return false;
		uintptr_t slot = cfa;
		cfa = load(slot);
		check_add(walk, fp, slot, cfa, true);
	}
	/* A call pushes: the caller's stack pointer lies above. After a signal in a prologue it may lie just there. */
	if (cfa < frame->sp + 8 || !readable(window, cfa - 8))
		return false;
	struct frame caller = {.pc = load(cfa - 8),
			       .sp = cfa,
			       .rbp = frame->rbp,
			       .rbp_at = frame->rbp_at,
			       .rbp_checked = frame->rbp_checked};
	check_add(walk, fp, cfa - 8, caller.pc, false);
	if (row.saved != CFI_KEPT) {
		caller.rbp_at = (row.saved == CFI_AT_CFA ? cfa : frame->rbp) + (uintptr_t)(intptr_t)(row.fp_slot * 8);
		if (!readable(window, caller.rbp_at))
			return false;
		caller.rbp = load(caller.rbp_at);
		caller.rbp_checked = false;
	}
	*frame = caller;
	return true;
}

/* To a caller on another stack, without unwind information, where the path ends. False: it is no such caller. */
static bool step_off_stack(struct walk *walk, struct window *window, const uintptr_t *fp, struct frame *frame,
			   struct cfi_row row)
{
	uintptr_t slot = frame->rbp + (uintptr_t)(intptr_t)row.cfa;
	check_rbp(walk, fp, frame);
	if (!readable(window, slot) || !load(slot) || cfi_row_of(load(slot), false).kind != CFI_NONE)
		return false;
	*frame = (struct frame){.pc = load(slot), .sp = UINTPTR_MAX};
	check_add(walk, fp, slot, frame->pc, false);
	return true;
}

/* The first of the last walk's checks, from one on, that does not hold now as it did then: those after it may be of no slot. */
static size_t first_that_differs(const struct walk *last, size_t from, size_t end)
{
	while (from < end &&
	       load(last->base + (uintptr_t)(intptr_t)(last->offsets[from] & ~WALK_POINTER)) == last->values[from])
		from++;
	return from;
}

/* Takes over so many checks of the last walk from one on. False: it stays as it is, they lie too far away. */
static bool checks_as_last(struct walk *walk, size_t from, size_t count)
{
	const struct walk *last = walk->last;
	int64_t by = (int64_t)(last->base - walk->base), beyond = 0;
	fa_assert(walk->offsets);
	if (walk->checks + count > WALK_CHECKS(walk->max))
		return false;
	for (size_t i = 0; i < count; i++) {
		int64_t offset = last->offsets[from + i] + by;
		walk->offsets[walk->checks + i] = (int32_t)offset;
		walk->values[walk->checks + i] = last->values[from + i];
		beyond |= offset >> 31;
	}
	walk->checks += beyond ? 0 : count;
	return !beyond;
}

static void frame_keep(struct walk *walk, const struct walk_frame *frame)
{
	walk->frames[walk->count] = *frame;
	walk->frames[walk->count].checks = (uint32_t)walk->checks;
	walk->pcs[walk->count++] = frame->pc;
}

/* The steps that the last walk made from its frame `at`, as many as would be made again, if it is the same as `frame`, which is
   kept already and becomes, as `at` does, the one where that ends. Cost: a load and a compare for each check, nothing is looked up. */
static bool steps_as_last(struct walk *walk, size_t *at, struct frame *frame)
{
	const struct walk *last = walk->last;
	const struct walk_frame *from = &last->frames[*at], *end = &last->frames[last->count - 1], *to = end;
	if (from->pc != frame->pc || from->sp != frame->sp || from->rbp_at != frame->rbp_at || from->rbp_checked ||
	    frame->rbp_checked || !from->rbp_at) /* rbp was checked before: it may be another now */
		return false;
	for (const struct walk_frame *step = from; step != to; step++)
		if (!step->steps_by_row) { /* what is behind it has to be proven readable */
			to = step;
			break;
		}
	size_t held = first_that_differs(last, from->checks, to->checks), most = walk->max - walk->count + 1;
	if ((size_t)(to - from) > most)
		to = from + most;
	while (to->checks > held)
		to--;
	uint32_t further = (uint32_t)walk->checks - from->checks; /* modulo 2^32 */
	if (to == from || !checks_as_last(walk, from->checks, to->checks - from->checks))
		return false;
	walk->frames[walk->count - 1].steps_by_row = true;
	for (const struct walk_frame *kept = from + 1; kept != to; kept++) {
		struct walk_frame *copy = &walk->frames[walk->count];
		*copy = *kept;
		copy->checks += further;
		walk->pcs[walk->count++] = kept->pc;
	}
	if (to == end)
		walk->common = to->checks - from->checks;
	*at += (size_t)(to - from);
	*frame = (struct frame){.pc = to->pc,
				.sp = to->sp,
				.rbp = load(to->rbp_at),
				.rbp_at = to->rbp_at,
				.rbp_checked = to->rbp_checked};
	return true;
}

void walk_run(const uintptr_t *fp, struct walk *walk)
{
	size_t steps = 0, at = 0, last_count = walk->last ? walk->last->count : 0;
	const struct walk_frame *last_frames = last_count ? walk->last->frames : NULL;
	uintptr_t here = (uintptr_t)fp & ~(uintptr_t)(PAGE_BYTES - 1);
	struct window window = {.low = here,
				.high = ((uintptr_t)(fp + 1) & ~(uintptr_t)(PAGE_BYTES - 1)) + PAGE_BYTES,
				.first = here,
				.known = walk->readable};
	struct frame frame = {.pc = fp[1], .sp = (uintptr_t)(fp + 2), .rbp = fp[0], .rbp_at = (uintptr_t)fp};
	walk->count = walk->checks = walk->common = 0;
	walk->base = (uintptr_t)fp;
	walk->cut = walk->failed = walk->guessed = false;
	walk->beyond = 0;
	walk->sought_pc = 0;
	walk->cacheable = walk->offsets != NULL;
	walk->max = walk->max < depth_limit ? walk->max : depth_limit;
	while (frame.pc) {
		if (unlikely(walk->sought != 0)) {
			if (frame.sp == walk->sought)
				walk->sought_pc = frame.pc;
			if (frame.sp >= walk->sought || ++steps == PATH_DEPTH_MAX)
				return;
			walk->count = 0;
		} else if (walk->count == walk->max) {
			walk->cut = true;
			walk->common = 0;
			if (!walk->checks || !walk->cacheable)
				return;
			walk->checks--; /* the last is of a frame that is not kept */
			if (walk->frames[walk->count - 1].steps_by_row)
				walk->beyond = walk->offsets[walk->checks];
			return;
		}
		if (walk->frames)
			frame_keep(walk, &(struct walk_frame){.pc = frame.pc,
							      .sp = frame.sp,
							      .rbp_at = frame.rbp_at,
							      .rbp_checked = frame.rbp_checked});
		else
			walk->pcs[walk->count++] = frame.pc;
		if (frame.sp == UINTPTR_MAX) /* by step_off_stack */
			return;
		while (at < last_count && last_frames[at].sp < frame.sp)
			at++;
		if (at < last_count && steps_as_last(walk, &at, &frame)) {
			window_note(&window, frame.sp - 8);
			continue;
		}
		struct cfi_row row = cfi_row_of(frame.pc, frame.exact);
		bool stepped = true;
		switch (row.kind) {
		case CFI_END:
			return;
		case CFI_SIGNAL:
			stepped = step_signal(walk, &window, &frame);
			break;
		case CFI_NONE:
			if (!row_guess(walk, &window, fp, &frame, &row))
				return;
			stepped = step_row(walk, &window, fp, &frame, row);
			break;
		case CFI_LEAVES:
			if (step_off_stack(walk, &window, fp, &frame, row))
				break;
			__attribute__((fallthrough));
		case CFI_HARD:
			walk->cacheable = false;
			walk->failed = !unwinder_walk(fp, walk);
			return;
		default:
			if (walk->frames)
				walk->frames[walk->count - 1].steps_by_row = true;
			stepped = step_row(walk, &window, fp, &frame, row);
		}
		if (!stepped) {
			walk->cacheable = false;
			walk->failed = true;
			return;
		}
	}
}
