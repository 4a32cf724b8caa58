/*
 * What the code patches run at each entry (patch_stub.S), and the data they share with patch.c. The offsets are written
 * out in the assembly; the asserts below keep both sides together.
 */
#ifndef FA_MARK_PATCH_STUB_H
#define FA_MARK_PATCH_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct patch_callback {
	struct patch_callback *next;
	union {
		void (*on_entry)(void *context, const uintptr_t *fp);
		bool (*on_enter)(void *context, const uintptr_t *fp, bool returns); /* around */
	};
	void *context;
	void (*on_leave)(void *context, const uintptr_t *fp); /* NULL for entry-only */
	struct patch_callback *previous;
};

/* One patched function. Written only while markers are bound. */
struct patch_record {
	struct patch_callback *entry; /* entry-only callbacks, first bound first */
	struct patch_callback *around; /* around callbacks, first bound first */
	struct patch_callback *around_last; /* their leave order */
	uintptr_t original; /* runs the displaced instructions, then the function */
	uintptr_t address;
	struct patch_stub *stub;
	bool no_stack_arguments; /* known: nothing of the caller's needs copying */
};

/* The code in near memory. Data stands before it in the same read-only block:
     entry:  push rbp; mov rbp, rsp; call [common]; pop rbp; jmp [next]
     around: push rbp; mov rbp, rsp; push [record]; call [around_common]; leave; ret
             leave; jmp original
     original: the displaced instructions
   `common` finds the record at a fixed distance from its own return address. */
struct patch_stub {
	uintptr_t common, record, next, around_common;
	uint8_t entry[17], entry_pad[15];
	uint8_t around[24], around_pad[8];
	uint8_t original[];
};

#define STUB_RETURN_TO_RECORD 34 /* entry + 10 is what `call [common]` returns to */
_Static_assert(offsetof(struct patch_stub, entry) + 10 - offsetof(struct patch_stub, record) == STUB_RETURN_TO_RECORD,
	       "stub");
_Static_assert(offsetof(struct patch_stub, original) == 96, "stub");
_Static_assert(offsetof(struct patch_callback, next) == 0 && offsetof(struct patch_callback, on_entry) == 8 &&
		       offsetof(struct patch_callback, context) == 16,
	       "callback");
_Static_assert(offsetof(struct patch_record, entry) == 0 && offsetof(struct patch_record, original) == 24, "record");

/* Words of mark_around's frame, as indices from its rbp. */
enum { PATCH_FRAME_RECORD = -1, PATCH_FRAME_LEAVES = -14 };
#define PATCH_CALLBACKS_MAX 64 /* around callbacks of one function: a bit each in the frame's `leaves` */

void mark_entry(void);
void mark_around(void);

/* One per way to keep the vector registers; stub_pick chooses by what the processor and the kernel have. */
typedef void (*stub_guard_fn)(void (*function)(void *a, void *b), void *a, void *b);
void mark_guard_sse(void (*function)(void *a, void *b), void *a, void *b);
void mark_guard_avx(void (*function)(void *a, void *b), void *a, void *b);
void mark_guard_avx512(void (*function)(void *a, void *b), void *a, void *b);
void mark_guard_xsave(void (*function)(void *a, void *b), void *a, void *b);

struct stub_guard {
	const char *name;
	stub_guard_fn run;
};

/* The fitting guard; tests ask for each that the machine can run by index, NULL past the last. */
const struct stub_guard *stub_pick(void);
const struct stub_guard *stub_at(size_t index);
/* Chosen for patch_guarded from now on. */
void stub_use(const struct stub_guard *guard);
const struct stub_guard *stub_used(void);

/* Called by mark_around with general registers saved. patch_run_enter answers with the bytes of stack
   arguments to copy, -1: no callback wants to see the return. */
int64_t patch_run_enter(struct patch_record *record, uintptr_t *fp);
void patch_run_leave(uintptr_t *fp);

/* mark_around's language-specific handler: in an unwinding's second phase the frame is about to go. */
int patch_personality(int version, int actions, uint64_t exception_class, void *exception, void *context);

#endif
