/* The libraries that the shim opens for its own use: libunwind, Zydis, libstdc++ for its demangler. Privately: their names stay
   out of the target's symbol lookup, and a target that carries its own copy is not disturbed. From the constructor, and
   wherever else dlopen may be called. */
#ifndef FA_LIBRARY_H
#define FA_LIBRARY_H

#include <stdbool.h>
#include <stdint.h>

/* Nothing is opened from now on. That allocates, by the malloc of the program, also of what is loaded already: one of its own may not
   be ready before main (GCL's lays out its heap there). */
void library_load_none(void);
/* The library of that soname, for dlsym; NULL when there is none. It stays for good. */
void *library_open(const char *soname);
/* Whether a module between two addresses is there because the shim opened it. */
bool library_is_ours(uintptr_t start, uintptr_t end);

#endif
