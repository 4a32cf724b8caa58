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

/* The return address lies at CFA - 8 in every kind that has a CFA. */
struct cfi_row {
	uint8_t kind;
	uint8_t saved;
	int16_t fp_slot;
	int32_t cfa;
};

/* Rows of return addresses that were looked up, by open addressing. A place's key is set once and never changes; its row
   is 0 until known and again after cfi_forget. Only the first places are used, so that a small program touches few pages;
   when there are more, what stood elsewhere is looked up anew. */
#define CFI_ROWS (1u << 16)
#define CFI_ROWS_FIRST (1u << 11)
struct cfi_place {
	_Atomic uintptr_t pc;
	_Atomic uint64_t row;
};
extern struct cfi_place *cfi_rows;
extern _Atomic uint32_t cfi_rows_mask; /* of the places in use; it only grows */

static always_inline uint32_t cfi_place_of(uintptr_t pc)
{
	return (uint32_t)(pc * 0x9e3779b97f4a7c15u >> 48) & atomic_load_explicit(&cfi_rows_mask, memory_order_relaxed);
}

static always_inline uint32_t cfi_place_after(uint32_t at)
{
	return (at + 1) & atomic_load_explicit(&cfi_rows_mask, memory_order_relaxed);
}

/* The row for a return address, if it was asked for before. Cost: a hash and one load, mostly. */
static always_inline bool cfi_row_known(uintptr_t pc, struct cfi_row *row)
{
	for (uint32_t at = cfi_place_of(pc);; at = cfi_place_after(at)) {
		uintptr_t known = atomic_load_explicit(&cfi_rows[at].pc, memory_order_relaxed);
		if (known != pc && known)
			continue;
		uint64_t packed = known ? atomic_load_explicit(&cfi_rows[at].row, memory_order_acquire) : 0;
		__builtin_memcpy(row, &packed, sizeof *row);
		return packed != 0;
	}
}

/* The row for the instruction at `pc` (exact), or for the call that returns to `pc`. */
struct cfi_row cfi_row_of(uintptr_t pc, bool exact);
/* Drops the rows of unmapped code. */
void cfi_forget(uintptr_t start, uintptr_t end);
/* Once or more often. */
int cfi_init(void);

#endif
