/*
 * Markers: binding to functions of an unmodified program. finder.c turns a FUNC spec into addresses; patch.c makes a
 * function's entry call us. Called from the shim's constructor while the process is single-threaded (DESIGN §5); only
 * finder_next may be called at any time.
 */
#ifndef FA_MARK_MARK_H
#define FA_MARK_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mark_function {
	uintptr_t address;
	size_t size; /* from the symbol, 0 when unknown */
	uintptr_t module_base; /* load bias */
	const char *module_path; /* lives as long as the module */
};

/* Finds every function that `spec` names in the modules loaded now: linkage name, demangled name with or without
   parameters, glob over both, `module!name` (module: file name with or without .so suffix, or glob),
   `module+0xoffset` (offset from the load bias, the function's first byte), `*` at module = any. Looks in .dynsym,
   .symtab, and a separate debug file by build-id under /usr/lib/debug. Resolves IFUNC symbols to the implementation in
   use. Passes over the shim itself, what it opened for itself, and, unless the module is given, ld.so. Calls `found`
   for each (same address once) until it returns false; `found` may patch. Returns the number found, or -EINVAL; *reason
   tells what is wrong with the spec, or why nothing was found when more than the name is to blame, else NULL. Calls
   malloc only when nothing was found by simpler means and a C++ name with parameters or templates may match. */
int finder_each(const char *spec, bool (*found)(void *context, const struct mark_function *function), void *context,
		const char **reason);

/* Address of the dynamic symbol `name`, first definition in load order after the module that holds `after`
   (0: from the start), in any module including RTLD_LOCAL ones; 0 when there is none. No malloc, no dlsym, usable
   before constructors. This is how "the next free in line" is found. */
uintptr_t finder_next(const char *name, uintptr_t after);

/* Opens the disassembler (libZydis.so.4.0 by dlopen RTLD_LOCAL). Once, from the constructor. 0 or -ENOENT. */
int patch_init(void);

/* Entry-only marker: from now on each entry of the function calls on_entry(context) first, with every register
   preserved, whatever on_entry and the libc functions it calls do to general and vector registers and flags (x87 state
   and MXCSR they must leave alone). `fp` looks like the frame of a function that the marked function's caller called:
   fp[0] its rbp, fp[1] the return address into it, fp + 2 its stack pointer after the return. on_entry must return.
   A function can have several callbacks of both kinds; entry callbacks come first, in the order they were bound.
   Returns 0 or -ENOTSUP with *reason = why it was refused (static text); the function is untouched then. */
int patch_entry(const struct mark_function *function, void (*on_entry)(void *context, const uintptr_t *fp),
		void *context, const char **reason);

/* Blocking libc call whose arguments all are general registers (at most 6): on_enter before, on_leave after it
   returned, in reverse order where there are several; errno, the result and all other registers pass. Exceptions and
   cancellation unwind through it; on_leave is not called then. */
int patch_around(const struct mark_function *function, void (*on_enter)(void *context, const uintptr_t *fp),
		 void (*on_leave)(void *context), void *context, const char **reason);

#endif
