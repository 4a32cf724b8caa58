/*
 * Call frame information: for a return address, how to get from its frame to the caller's. Rows are read from .eh_frame
 * once and kept in a process-wide table; a row says all that a walk needs, in 8 bytes.
 */
#ifndef FA_PATH_CFI_H
#define FA_PATH_CFI_H

#include "core/base.h"

enum cfi_kind {
	CFI_UNKNOWN, /* never in a row that was looked up: 0 marks an empty place in the table */
	CFI_SP, /* CFA = sp + cfa */
	CFI_FP, /* CFA = rbp + cfa */
	CFI_FP_LOADED, /* CFA = *(rbp + cfa): a function that realigned its stack */
	CFI_LEAVES, /* the caller is on another stack, its pc at rbp + cfa */
	CFI_END, /* the outermost frame */
	CFI_SIGNAL, /* the kernel's trampoline: a ucontext lies at sp */
	CFI_HARD, /* has a rule that does not fit a row */
	CFI_NONE, /* no information: generated code, or a module without .eh_frame */
};

enum cfi_saved {
	CFI_KEPT, /* rbp is as in the callee */
	CFI_AT_CFA, /* saved at CFA + fp_slot * 8 */
	CFI_AT_FP, /* saved at rbp + fp_slot * 8 */
};

/* The return address lies at CFA - 8 in every kind that has a CFA. What `cfa` is else, the kind says. */
struct cfi_row {
	uint8_t kind : 7, after_call : 1; /* 1: a call is known to stand before it */
	uint8_t saved;
	int16_t fp_slot;
	int32_t cfa;
};

/* Rows of return addresses that were looked up, by open addressing. A place's key is set once and never changes; its row
   is 0 until known and again after cfi_forget. The table is replaced by a larger one when three quarters of it are used, so
   that a small program touches few pages; each begins where the one before it could end at most, and begins empty: it takes a
   row from those before when it is asked for it. */
#define CFI_ROWS_FIRST (1u << 11)
#define CFI_ROWS_LAST (1u << 17)
struct cfi_place {
	_Atomic uintptr_t pc;
	_Atomic uint64_t row;
};
extern struct cfi_place *cfi_rows; /* the table of n places begins at n */
extern _Atomic uint32_t cfi_rows_in_use; /* n */

static always_inline uint32_t cfi_place_of(uintptr_t pc, uint32_t rows)
{
	return rows | ((uint32_t)(pc * 0x9e3779b97f4a7c15u >> 40) & (rows - 1));
}

static always_inline uint32_t cfi_place_after(uint32_t at, uint32_t rows)
{
	return rows | ((at + 1) & (rows - 1));
}

/* A return address's place in the table of so many; NULL: it has none. Cost: a hash and one load, mostly. */
static always_inline struct cfi_place *cfi_place_in(uint32_t rows, uintptr_t pc)
{
	for (uint32_t at = cfi_place_of(pc, rows);; at = cfi_place_after(at, rows)) {
		uintptr_t known = atomic_load_explicit(&cfi_rows[at].pc, memory_order_relaxed);
		if (known == pc || !known)
			return known ? &cfi_rows[at] : NULL;
	}
}

/* Its row, if that table has it. */
static always_inline bool cfi_row_in(uint32_t rows, uintptr_t pc, struct cfi_row *row)
{
	const struct cfi_place *place = cfi_place_in(rows, pc);
	uint64_t packed = place ? atomic_load_explicit(&place->row, memory_order_acquire) : 0;
	__builtin_memcpy(row, &packed, sizeof *row);
	return packed != 0;
}

/* The same of the table in use. */
static always_inline bool cfi_row_known(uintptr_t pc, struct cfi_row *row)
{
	return cfi_row_in(atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed), pc, row);
}

/* The row for the instruction at `pc` (exact), or for the call that returns to `pc`. */
struct cfi_row cfi_row_of(uintptr_t pc, bool exact);
/* Whether the bytes before `code` may be a call's; so many of them are read. */
#define CFI_CALL_BYTES_MAX 7
bool cfi_follows_call(const uint8_t *code);
/* The same of any word, where it was seen before that the row of a module's code has it, without reading what lies there. */
static always_inline bool cfi_is_after_call(uintptr_t pc)
{
	struct cfi_row row;
	return cfi_row_known(pc, &row) && row.after_call;
}
/* It was seen to be so. Kept for code whose row is known, as long as that is. */
void cfi_note_after_call(uintptr_t pc);
/* Drops the rows of unmapped code. */
void cfi_forget(uintptr_t start, uintptr_t end);
/* Once or more often. */
int cfi_init(void);

#endif
