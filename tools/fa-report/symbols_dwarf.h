/* Which functions, inlined ones among them, hold an address: the part of symbols.c that knows DWARF's trees. */
#ifndef FA_REPORT_SYMBOLS_DWARF_H
#define FA_REPORT_SYMBOLS_DWARF_H

#include <elfutils/libdw.h>
#include <stddef.h>

enum { SYMBOLS_DWARF_DEPTH = 64 };

struct symbols_dwarf;

struct symbols_dwarf *symbols_dwarf_open(void); /* NULL: no memory */
void symbols_dwarf_close(struct symbols_dwarf *dwarf);

/* The functions that hold `pc` in the unit `cu`, innermost first: inlined subroutines, then the subprogram. Returns how
   many of `chain` are filled, 0 when the unit knows none. A unit's functions are listed once, at its first question. */
size_t symbols_dwarf_chain(struct symbols_dwarf *dwarf, Dwarf_Die *cu, Dwarf_Addr pc,
			   Dwarf_Die chain[SYMBOLS_DWARF_DEPTH]);

/* Where an inlined subroutine of the chain was called; NULL when unknown, *line is 0 then. */
const char *symbols_dwarf_call(Dwarf_Die *cu, Dwarf_Die *inlined, int *line);

/* The raw name: the linkage name, else the plain one; NULL when it has none. */
const char *symbols_dwarf_name(Dwarf_Die *function);

/* Whether the function is marked as standing for its caller's line (the calls of framealloc.h). */
bool symbols_dwarf_is_artificial(Dwarf_Die *function);

#endif
