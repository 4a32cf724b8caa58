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

/* The row for the instruction at `pc` (exact), or for the call that returns to `pc`. */
struct cfi_row cfi_row_of(uintptr_t pc, bool exact);
/* Drops the rows of unmapped code. */
void cfi_forget(uintptr_t start, uintptr_t end);
int cfi_init(void);

#endif
