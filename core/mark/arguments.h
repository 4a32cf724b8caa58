/* Does a function take arguments on the stack? Told from its code and unwind tables, for the patcher: what is not there
   need not be copied. */
#ifndef FA_MARK_ARGUMENTS_H
#define FA_MARK_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* False only when no instruction of the function, nor of those it may jump to, reads or forms an address at or above
   its caller's stack pointer: true in doubt. patch_init and cfi_init must have been called. */
bool arguments_on_stack(uintptr_t address);

#endif
