/*
 * Names for addresses: symbol tables and DWARF of the recorded modules, through libdwfl (separate debug files by build-id
 * included), demangled by libiberty. Each address is looked up once. Nothing is read for modules no one asks about.
 */
#ifndef FA_REPORT_SYMBOLS_H
#define FA_REPORT_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/trace/reader.h"

struct symbols;

/* One function at one place. Strings live as long as the symbols; unknown ones are NULL. */
struct symbol_frame {
	const char *function; /* qualified, without parameters */
	const char *signature; /* demangled whole */
	const char *linkage_name; /* raw */
	const char *file;
	int line; /* 0: unknown */
	const char *module;
	const char *build_id; /* hex */
	uint64_t offset; /* of the return address in its module; absolute where there is no module */
	bool inlined;
};

/* The functions at one call-tree node: inlined ones first, the function that holds the address last. At least one. */
struct symbol_place {
	struct symbol_frame *frame;
	size_t count;
	bool own; /* the shim's own code */
	void *user; /* the outputs' cache for this place */
};

struct symbols_options {
	const char *sysroot; /* NULL: none */
	bool no_inlines;
};

struct symbols *symbols_open(const struct reader *reader, const struct symbols_options *options);
void symbols_close(struct symbols *symbols);

/* Never NULL. */
struct symbol_place *symbols_of_node(struct symbols *symbols, uint32_t node);

/* Parent of a node, 0 at the root; damaged trees end. */
uint32_t symbols_parent(const struct symbols *symbols, uint32_t node);

#endif
