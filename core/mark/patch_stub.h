/*
 * What the code patches run at each entry (patch_stub.S), and the data they share with patch.c. The offsets are written
 * out in the assembly; the asserts below keep both sides together.
 */
#ifndef FA_MARK_PATCH_STUB_H
#define FA_MARK_PATCH_STUB_H

#include <stddef.h>
#include <stdint.h>

struct patch_callback {
	struct patch_callback *next;
	void (*on_entry)(void *context, const uintptr_t *fp); /* on_enter of an around patch */
	void *context;
	void (*on_leave)(void *context); /* NULL for entry-only */
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
};

/* The code in near memory. Data stands before it in the same read-only block:
     entry:  push rbp; mov rbp, rsp; call [common]; pop rbp; jmp [next]
     around: mov r11, [record]; jmp [around_common]
     original: the displaced instructions
   `common` finds the record at a fixed distance from its own return address. */
struct patch_stub {
	uintptr_t common, record, next, around_common;
	uint8_t entry[17], entry_pad[15];
	uint8_t around[13], around_pad[3];
	uint8_t original[];
};

#define STUB_RETURN_TO_RECORD 34 /* entry + 10 is what `call [common]` returns to */
_Static_assert(offsetof(struct patch_stub, entry) + 10 - offsetof(struct patch_stub, record) == STUB_RETURN_TO_RECORD,
	       "stub");
_Static_assert(offsetof(struct patch_stub, original) == 80, "stub");
_Static_assert(offsetof(struct patch_callback, next) == 0 && offsetof(struct patch_callback, on_entry) == 8 &&
		       offsetof(struct patch_callback, context) == 16,
	       "callback");
_Static_assert(offsetof(struct patch_record, entry) == 0 && offsetof(struct patch_record, original) == 24, "record");

/* One per way to keep the vector registers; stub_pick chooses by what the processor and the kernel have. */
void mark_entry_sse(void);
void mark_entry_avx(void);
void mark_entry_avx512(void);
void mark_entry_xsave(void);
void mark_around_sse(void);
void mark_around_avx(void);
void mark_around_avx512(void);
void mark_around_xsave(void);

struct stub_pair {
	const char *name;
	void (*entry)(void), (*around)(void);
};

/* The fitting pair; tests ask for each that the machine can run by index, NULL past the last. */
const struct stub_pair *stub_pick(void);
const struct stub_pair *stub_at(size_t index);
/* Chosen for functions patched from now on. */
void stub_use(const struct stub_pair *pair);
const struct stub_pair *stub_used(void);

/* Called by mark_around with general registers saved. They keep errno. */
void patch_run_enter(const struct patch_record *record, const uintptr_t *fp);
void patch_run_leave(const struct patch_record *record);

#endif
