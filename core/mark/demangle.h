/*
 * Demangled names, for comparing with what the user typed. demangle_path reads the plain cases itself; the C++
 * runtime's demangler is opened only when a spec needs it.
 */
#ifndef FA_MARK_DEMANGLE_H
#define FA_MARK_DEMANGLE_H

#include <stdbool.h>
#include <stddef.h>

/* `ns::Class::method` of a linkage name of C++ (Itanium) or Rust (legacy), without parameters. False for templates,
   substitutions and whatever else needs a real demangler, and for names that are not mangled. No libc call. */
bool demangle_path(const char *linkage, char *out, size_t out_bytes);

/* Finds or opens the demangler. Once is enough; demangle_full does it too. */
void demangle_open(void);

/* The whole name with template arguments and parameters, by __cxa_demangle: the process's own, or libstdc++.so.6 opened
   RTLD_LOCAL. It calls malloc: constructor time only, where the shim's own allocations are known as such. */
bool demangle_full(const char *linkage, char *out, size_t out_bytes);

#endif
