/*
 * What runs inside mark_around's frame (patch_stub.S): the callbacks of one call, how much of the caller's stack goes
 * with it, and what happens when the frame is unwound instead of returned from.
 */
#define _GNU_SOURCE
#include "core/base.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/mark/patch_stub.h"
#include "core/path/cfi.h"

#define ARGUMENTS_MAX_BYTES 1024

static void read_row(void *pc, void *row)
{
	*(struct cfi_row *)row = cfi_row_of((uintptr_t)pc, false);
}

/*
 * Bytes from the first stack argument to the end of the caller's frame: what the function may take to be its arguments
 * lies in there. -1: unknown, or more than is copied. `fp[1]` returns into the caller, `fp + 2` is its stack pointer.
 */
static __attribute__((noinline)) int64_t arguments_bytes(const uintptr_t *fp)
{
	struct cfi_row row;
	if (unlikely(!cfi_row_known(fp[1], &row)))
		patch_guarded(read_row, (void *)fp[1], &row);
	uintptr_t sp = (uintptr_t)(fp + 2), cfa;
	if (row.kind == CFI_SP)
		cfa = sp + (uintptr_t)(intptr_t)row.cfa;
	else if (row.kind == CFI_FP)
		cfa = fp[0] + (uintptr_t)(intptr_t)row.cfa;
	else
		return -1;
	/* The caller's own return address ends it. */
	return cfa >= sp + 8 && cfa - 8 - sp <= ARGUMENTS_MAX_BYTES && !(cfa & 7) ? (int64_t)(cfa - 8 - sp) : -1;
}

/* Any number of callbacks, any arguments: apart from the plain case, which needs none of the registers that this saves. */
static __attribute__((noinline)) int64_t enter_general(const struct patch_record *record, uintptr_t *fp)
{
	int64_t bytes = record->no_stack_arguments ? 0 : arguments_bytes(fp);
	bool returns = bytes >= 0;
	uint64_t leaves = 0, bit = 1; /* a bit for each callback that is to see the return */
	for (const struct patch_callback *callback = record->around; callback; callback = callback->next, bit <<= 1)
		if (callback->on_enter(callback->context, fp, returns) && returns)
			leaves |= bit;
	fp[PATCH_FRAME_LEAVES] = leaves;
	return leaves ? bytes : -1;
}

int64_t patch_run_enter(struct patch_record *record, uintptr_t *fp)
{
	if (unlikely(patch_is_guarded))
		return -1;
	const struct patch_callback *only = record->around;
	if (unlikely(!record->no_stack_arguments) || unlikely(!only || only->next))
		return enter_general(record, fp);
	bool leaves = only->on_enter(only->context, fp, true);
	fp[PATCH_FRAME_LEAVES] = leaves;
	return (int64_t)leaves - 1;
}

/* Apart as well. */
static __attribute__((noinline)) void leave_several(const struct patch_record *record, const uintptr_t *fp)
{
	uint64_t leaves = fp[PATCH_FRAME_LEAVES], bit = 1;
	for (const struct patch_callback *callback = record->around; callback->next; callback = callback->next)
		bit <<= 1;
	for (const struct patch_callback *callback = record->around_last; callback;
	     callback = callback->previous, bit >>= 1)
		if (leaves & bit)
			callback->on_leave(callback->context, fp);
}

void patch_run_leave(uintptr_t *fp)
{
	const struct patch_record *record = (const struct patch_record *)fp[PATCH_FRAME_RECORD];
	const struct patch_callback *last = record->around_last;
	if (likely(!last->previous))
		last->on_leave(last->context, fp);
	else
		leave_several(record, fp);
}

enum { UNWIND_CLEANUP_PHASE = 2, UNWIND_CONTINUE = 8, UNWIND_RBP = 6 };

/* rbp of the frame in `context`. The unwinder that calls us may be any: libgcc's, a copy inside the program. Its own
   _Unwind_GetGR reads what it made. */
static uintptr_t frame_pointer(void *context, uintptr_t unwinder)
{
	static struct {
		uintptr_t start, end;
		_Atomic(uintptr_t (*)(void *, int)) get;
	} known;
	uintptr_t (*get)(void *, int) = atomic_load(&known.get);
	if (!get || unwinder < known.start || unwinder >= known.end) {
		struct image image;
		const Elf64_Sym *symbol = image_of(unwinder, &image) ? image_lookup(&image, "_Unwind_GetGR") : NULL;
		if (!symbol)
			return 0;
		get = (__typeof__(get))image_symbol_address(image.base, symbol);
		if (!atomic_load(&known.get)) {
			known.start = image.start;
			known.end = image.end;
			atomic_store(&known.get, get);
		}
	}
	return get(context, UNWIND_RBP);
}

int patch_personality(int version, int actions, uint64_t exception_class, void *exception, void *context)
{
	(void)version, (void)exception_class, (void)exception;
	if (actions & UNWIND_CLEANUP_PHASE) {
		uintptr_t fp = frame_pointer(context, (uintptr_t)__builtin_return_address(0));
		if (fp)
			patch_run_leave((uintptr_t *)fp);
	}
	return UNWIND_CONTINUE;
}
