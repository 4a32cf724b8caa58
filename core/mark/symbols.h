/* Every function symbol of a module: from its dynamic table in memory, its .symtab, and its separate debug file. */
#ifndef FA_MARK_SYMBOLS_H
#define FA_MARK_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mark/image.h"

struct symbols_visitor {
	/* `name` is the linkage name without its version and valid during the call only; the symbol is a defined
	   function, an IFUNC, or untyped (hand-written assembly). Returns false to stop. */
	bool (*visit)(void *context, const struct image *image, const char *name, const Elf64_Sym *symbol);
	void *context;
};

/* False when the visitor stopped. Aliases come as often as they are listed, in more than one table. Opens files:
   constructor time only. */
bool symbols_each(const struct image *image, const struct symbols_visitor *visitor);

#endif
