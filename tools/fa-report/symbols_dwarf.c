/*
 * libdw's dwarf_getscopes looks through a unit from its start at each question, does not enter namespaces (where Rust
 * keeps its functions), and leaves an inlined function by where it was written. So: one sorted list of functions for each
 * unit, then down the one function that holds the address.
 */
#include "tools/fa-report/symbols_dwarf.h"

#include <dwarf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct function_range {
	Dwarf_Addr start, end;
	Dwarf_Die die;
};

struct unit {
	const void *cu; /* libdw's own, one for each unit of each file */
	struct function_range *range; /* by start */
	size_t count, room;
};

struct symbols_dwarf {
	struct unit *unit;
	size_t count, last;
};

struct symbols_dwarf *symbols_dwarf_open(void)
{
	return calloc(1, sizeof(struct symbols_dwarf));
}

void symbols_dwarf_close(struct symbols_dwarf *dwarf)
{
	if (!dwarf)
		return;
	for (size_t i = 0; i < dwarf->count; i++)
		free(dwarf->unit[i].range);
	free(dwarf->unit);
	free(dwarf);
}

static bool add_range(struct unit *unit, const struct function_range *range)
{
	if (unit->count == unit->room) {
		size_t room = unit->room ? 2 * unit->room : 64;
		struct function_range *grown = realloc(unit->range, room * sizeof *grown);
		if (!grown)
			return false;
		unit->range = grown;
		unit->room = room;
	}
	unit->range[unit->count++] = *range;
	return true;
}

/* Functions among the children of `parent`, and within what may hold functions. Depth is bounded against damage. */
static void list_functions(struct unit *unit, Dwarf_Die *parent, int depth)
{
	Dwarf_Die child;
	if (depth > SYMBOLS_DWARF_DEPTH || dwarf_child(parent, &child))
		return;
	do {
		struct function_range range = {.die = child};
		Dwarf_Addr base;
		ptrdiff_t next = 0;
		switch (dwarf_tag(&child)) {
		case DW_TAG_subprogram:
			while ((next = dwarf_ranges(&child, next, &base, &range.start, &range.end)) > 0)
				if (range.start < range.end && !add_range(unit, &range))
					return;
			break;
		case DW_TAG_namespace:
		case DW_TAG_module:
		case DW_TAG_class_type:
		case DW_TAG_structure_type:
		case DW_TAG_union_type:
		case DW_TAG_enumeration_type:
			list_functions(unit, &child, depth + 1);
			break;
		default:
			break;
		}
	} while (dwarf_siblingof(&child, &child) == 0);
}

static int by_start(const void *left, const void *right)
{
	const struct function_range *a = left, *b = right;
	return a->start != b->start ? (a->start < b->start ? -1 : 1) : a->end < b->end ? 1 : a->end > b->end ? -1 : 0;
}

static const struct unit *unit_of(struct symbols_dwarf *dwarf, Dwarf_Die *cu)
{
	if (dwarf->count && dwarf->unit[dwarf->last].cu == cu->cu)
		return &dwarf->unit[dwarf->last];
	for (size_t i = 0; i < dwarf->count; i++)
		if (dwarf->unit[i].cu == cu->cu)
			return &dwarf->unit[dwarf->last = i];
	struct unit *grown = realloc(dwarf->unit, (dwarf->count + 1) * sizeof *grown);
	if (!grown)
		return NULL;
	dwarf->unit = grown;
	dwarf->last = dwarf->count++;
	struct unit *unit = &dwarf->unit[dwarf->last];
	*unit = (struct unit){.cu = cu->cu};
	list_functions(unit, cu, 0);
	if (unit->count)
		qsort(unit->range, unit->count, sizeof *unit->range, by_start);
	return unit;
}

static const struct function_range *function_at(const struct unit *unit, Dwarf_Addr pc)
{
	size_t low = 0, high = unit->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (unit->range[middle].start <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low && pc < unit->range[low - 1].end ? &unit->range[low - 1] : NULL;
}

/* The child block or inlined function that holds `pc`. */
static bool step_down(Dwarf_Die *die, Dwarf_Addr pc)
{
	Dwarf_Die child;
	if (dwarf_child(die, &child))
		return false;
	do {
		int tag = dwarf_tag(&child);
		bool block = tag == DW_TAG_lexical_block || tag == DW_TAG_inlined_subroutine ||
			     tag == DW_TAG_try_block || tag == DW_TAG_catch_block;
		if (block && dwarf_haspc(&child, pc) == 1) {
			*die = child;
			return true;
		}
	} while (dwarf_siblingof(&child, &child) == 0);
	return false;
}

size_t symbols_dwarf_chain(struct symbols_dwarf *dwarf, Dwarf_Die *cu, Dwarf_Addr pc,
			   Dwarf_Die chain[SYMBOLS_DWARF_DEPTH])
{
	const struct unit *unit = unit_of(dwarf, cu);
	const struct function_range *function = unit ? function_at(unit, pc) : NULL;
	if (!function)
		return 0;
	size_t count = 0;
	Dwarf_Die die = function->die;
	chain[count++] = die;
	for (int depth = 0; depth < 4 * SYMBOLS_DWARF_DEPTH && count < SYMBOLS_DWARF_DEPTH && step_down(&die, pc);
	     depth++)
		if (dwarf_tag(&die) == DW_TAG_inlined_subroutine)
			chain[count++] = die;
	for (size_t i = 0; i < count / 2; i++) {
		Dwarf_Die outer = chain[i];
		chain[i] = chain[count - 1 - i];
		chain[count - 1 - i] = outer;
	}
	return count;
}

const char *symbols_dwarf_call(Dwarf_Die *cu, Dwarf_Die *inlined, int *line)
{
	Dwarf_Attribute attribute;
	Dwarf_Word index, number;
	Dwarf_Files *files;
	size_t count;
	*line = 0;
	if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &number) == 0 && number <= INT32_MAX)
		*line = (int)number;
	if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &index) == 0 &&
	    dwarf_getsrcfiles(cu, &files, &count) == 0 && index < count)
		return dwarf_filesrc(files, index, NULL, NULL);
	return NULL;
}

const char *symbols_dwarf_name(Dwarf_Die *function)
{
	Dwarf_Attribute attribute;
	if (dwarf_attr_integrate(function, DW_AT_linkage_name, &attribute) ||
	    dwarf_attr_integrate(function, DW_AT_MIPS_linkage_name, &attribute))
		return dwarf_formstring(&attribute);
	return dwarf_attr_integrate(function, DW_AT_name, &attribute) ? dwarf_formstring(&attribute) : NULL;
}

bool symbols_dwarf_is_artificial(Dwarf_Die *function)
{
	Dwarf_Attribute attribute;
	bool artificial = false;
	return dwarf_attr_integrate(function, DW_AT_artificial, &attribute) &&
	       dwarf_formflag(&attribute, &artificial) == 0 && artificial;
}
