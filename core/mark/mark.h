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

/* The same for exported functions of exactly these names: one look into each module's hash table for each, in one pass
   over the modules; nothing else is read. `found` is told the name's index. */
void finder_exported(const char *const *names, size_t count,
		     void (*found)(void *context, size_t name, const struct mark_function *function), void *context);

/* Calls `visit` for every module in which functions are looked for, but ld.so, until it returns false. */
struct image;
void finder_modules(bool (*visit)(void *context, const struct image *image, const char *path), void *context);

/* From now on only modules that `wanted` says yes to are looked at, and IFUNCs, whose resolvers cannot run before their
   module is relocated, are passed over. NULL: all modules again. */
void finder_only(bool (*wanted)(const struct image *image));
bool finder_resolves(void); /* IFUNCs are not passed over */

/* The function that holds `*address`, from its module's unwind table: its first byte, and its size in *size. False,
   and nothing changed, when the table tells nothing. */
bool mark_function_extent(uintptr_t *address, size_t *size);
/* The end of the function that begins at `function`: by its size, or where that is 0 by the table. `function`: it is not known. */
uintptr_t mark_function_end(uintptr_t function, size_t size);

/* Where a function jumps to that consists of a jump, as it stands now: patched, it does not. Both 0: it does not, or there is no
   disassembler. */
struct mark_jump {
	uintptr_t target;
	const uintptr_t *slot; /* that holds its target */
};
struct mark_jump mark_jump_of(uintptr_t function);

/* Address of the dynamic symbol `name`, first definition in load order after the module that holds `after`
   (0: from the start), in any module including RTLD_LOCAL ones; 0 when there is none. No malloc, no dlsym, usable
   before constructors. This is how "the next free in line" is found. */
uintptr_t finder_next(const char *name, uintptr_t after);

/* Opens the disassembler (Zydis, by library.h). Once, from the constructor. 0 or -ENOENT. */
int patch_init(void);

/* Callbacks of patches run with the marked function's vector registers still in place: they are compiled for general
   registers only (Makefile: GENERAL_ONLY), and whatever else they call goes through this, which keeps those registers
   and errno. */
void patch_guarded(void (*function)(void *a, void *b), void *a, void *b);
/* The program has asked for threads that can be cancelled at any instruction. What must not be left half done then goes
   through patch_guarded, which puts a cancellation off. */
extern _Atomic bool patch_cancels_anywhere __attribute__((visibility("hidden")));
/* The calling thread is inside patch_guarded: what is marked is called by the shim itself. */
extern __thread bool patch_is_guarded __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* Entry-only marker: from now on each entry of the function calls on_entry(context) first, with every register
   preserved, whatever on_entry does to general registers and flags. `fp` looks like the frame of a function that the marked function's caller called:
   fp[0] its rbp, fp[1] the return address into it, fp + 2 its stack pointer after the return. on_entry must return.
   A function can have several callbacks of both kinds; entry callbacks come first, in the order they were bound.
   Returns 0 or -ENOTSUP with *reason = why it was refused (static text); the function is untouched then. */
int patch_entry(const struct mark_function *function, void (*on_entry)(void *context, const uintptr_t *fp),
		void *context, const char **reason);

/* Inside an entry callback: the function's n-th argument as it was passed in a register, n from 1 to 6. The frame of
   mark_entry holds the return into the stub, rax, rcx, rdx, rsi, rdi, r8, r9; mark_around's has one word more. */
static inline uintptr_t patch_argument(const uintptr_t *fp, unsigned n)
{
	static const signed char places[] = {0, -6, -5, -4, -3, -7, -8};
	return fp[places[n]];
}

/* Entry and return: on_enter before, on_leave after the function returned, in reverse order where there are several.
   Every register, the flags at entry, errno and the result pass, and so do stack arguments: as many bytes are copied as
   the caller's frame has room for, at most 1 KiB; `register_arguments` says that there are none. Where that can't be
   told (a larger frame, no unwind information) and the function's code does not show that it takes none either, the call
   is made as if it were not patched: on_enter is told with `returns` false. on_enter answers whether on_leave is wanted;
   only then does a frame of ours stand between caller and function. on_leave gets the same `fp` as on_enter, and comes
   too when an exception, pthread_exit or cancellation unwinds through the frame; longjmp leaves it without a word.
   Threads and errors as patch_entry. */
int patch_around(const struct mark_function *function,
		 bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
		 void (*on_leave)(void *context, const uintptr_t *fp), void *context, bool register_arguments,
		 const char **reason);

/* Inside on_enter: the same of the function's first argument. */
static inline uintptr_t patch_around_argument(const uintptr_t *fp)
{
	return fp[-7];
}

/* While `is_fresh` says so of a function, it is patched although other threads run: its module has just been mapped, no
   code of it has run. NULL: none is. */
void patch_fresh(bool (*is_fresh)(uintptr_t address));

/* The module at [start, end) is unmapped: its patches are forgotten. */
void patch_forget(uintptr_t start, uintptr_t end);

/* The markers of the moment are bound: frees what was kept to bind many of them quickly. */
void patch_release(void);

/* Has ld.so call on_change whenever its list of modules has changed: inside dlopen, when the new modules are mapped (from
   glibc 2.41 on, relocated as well) and their constructors have not run, and inside dlclose. NULL, or why that can't be had.
   Needs no disassembler. */
const char *patch_loader_event(void (*on_change)(void *context, const uintptr_t *fp));

#endif
