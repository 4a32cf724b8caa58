/* Binding without touching code: the slots through which modules call a function (GOT entries of PLT calls and function
   pointers that ld.so filled in) lead to stubs of ours. For systems whose policy lets nobody write code; calls within
   the function's own module and pointers from dlsym are not seen. */
#ifndef FA_MARK_GOT_H
#define FA_MARK_GOT_H

#include "core/mark/mark.h"

/* As patch_around (mark.h), for all slots that hold the function's address now. A function that is bound already gets no
   second callback, but slots of modules that came since are led to the first. 0 or -ENOTSUP with the reason. */
int got_around(const struct mark_function *function, bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
	       void (*on_leave)(void *context, const uintptr_t *fp), void *context, bool register_arguments,
	       const char **reason);

/* The same for one slot that is known, of a function that takes register arguments only: more than one slot may lead to
   one function. */
int got_slot(const struct mark_function *function, uintptr_t slot,
	     bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
	     void (*on_leave)(void *context, const uintptr_t *fp), void *context, const char **reason);

/* The functions that the shim takes over, and what answers with the address of each; the list stays. */
struct got_own {
	const char *name;
	void *(*resolve)(void);
};
void got_own(const struct got_own *list, size_t count);

/* A module that is opened with RTLD_DEEPBIND would find libc's own functions before ours: a block from one heap would be
   freed by the other. New modules are told to take ours, as they would without that flag: by their relocations while
   ld.so has not read these, else by what it has filled in. None of their code has run, but for resolvers. */
struct image;
void got_adopt(bool (*is_new)(const struct image *image));

/* Whether another way than patching is worth trying where patching gave this reason: what stands against it is not the
   function. */
bool got_can_help(const char *reason);

#endif
