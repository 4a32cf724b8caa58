/*
 * "The next definition in line", as dlsym(RTLD_NEXT) would give it, but without dlsym: it may allocate, it knows no
 * RTLD_LOCAL module, and hooks ask inside the process's first allocation. Called once per name.
 */
#include "core/mark/image.h"
#include "core/mark/mark.h"

struct next_search {
	const char *name;
	uintptr_t after;
	bool passed;
	uintptr_t found;
};

static bool next_in(void *context, const struct image *image)
{
	struct next_search *search = context;
	if (!search->passed) {
		search->passed = search->after >= image->start && search->after < image->end;
		return true;
	}
	const Elf64_Sym *symbol = image_lookup(image, search->name);
	if (symbol)
		search->found = image_symbol_address(image->base, symbol);
	return !search->found;
}

uintptr_t finder_next(const char *name, uintptr_t after)
{
	struct next_search search = {.name = name, .after = after, .passed = !after};
	image_each(next_in, &search);
	return search.found;
}
