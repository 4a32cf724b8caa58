/* Each bound function takes one of the stubs of got_stub.S, which are part of our own code: no memory needs to become
   executable. Slots in read-only pages (RELRO) are made writable for the moment of the store. */
#define _GNU_SOURCE
#include "core/mark/got.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base.h"
#include "core/mark/got_stub.h"
#include "core/mark/image.h"
#include "core/mark/patch_stub.h"
#include "core/mark/refuse.h"
#include "core/path/cfi.h"

#define PAGE ((uintptr_t)4095)
#define NAMES_MAX 16u /* of one function: more than any library but those with folded methods has */

extern const char got_stubs[], got_stubs_end[];
/* Read by the stubs. */
struct patch_record *got_record[GOT_STUBS];
uintptr_t got_original[GOT_STUBS];

static struct patch_record records[GOT_STUBS];
static struct patch_callback callbacks[GOT_STUBS];
static uint32_t used;

static uintptr_t stub_at_index(uint32_t index)
{
	return (uintptr_t)got_stubs + ((uintptr_t)got_stubs_end - (uintptr_t)got_stubs) / GOT_STUBS * index;
}

struct search {
	uintptr_t function, stub;
	const char *names[NAMES_MAX]; /* those that the function is first of all definitions of, in load order */
	uint32_t name_count;
	uint32_t slots;
};

static bool in_relro(const struct image *image, uintptr_t address)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		uintptr_t start = image->base + image->phdr[i].p_vaddr;
		if (image->phdr[i].p_type == PT_GNU_RELRO && address >= (start & ~PAGE) &&
		    address < start + image->phdr[i].p_memsz)
			return true;
	}
	return false;
}

static int protection_of(const struct image *image, uintptr_t address)
{
	if (in_relro(image, address))
		return PROT_READ;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t start = image->base + header->p_vaddr;
		if (header->p_type == PT_LOAD && address >= start && address < start + header->p_memsz)
			return (header->p_flags & PF_R ? PROT_READ : 0) | (header->p_flags & PF_W ? PROT_WRITE : 0) |
			       (header->p_flags & PF_X ? PROT_EXEC : 0);
	}
	return PROT_READ;
}

/* The pages of something in a module, made writable for a moment where they are not. */
struct opened {
	void *pages;
	size_t bytes;
	int before; /* their protection */
};

static bool open_pages(const struct image *image, uintptr_t start, uintptr_t end, struct opened *opened)
{
	uintptr_t first = start & ~PAGE;
	*opened = (struct opened){(void *)first, round_up(end, PAGE + 1) - first, protection_of(image, start)};
	return opened->before & PROT_WRITE || !mprotect(opened->pages, opened->bytes, PROT_READ | PROT_WRITE);
}

static void close_pages(const struct opened *opened)
{
	if (!(opened->before & PROT_WRITE))
		mprotect(opened->pages, opened->bytes, opened->before);
}

static bool store(const struct image *image, uintptr_t *slot, uintptr_t value)
{
	struct opened opened;
	if (!open_pages(image, (uintptr_t)slot, (uintptr_t)(slot + 1), &opened))
		return false;
	__atomic_store_n(slot, value, __ATOMIC_RELEASE);
	close_pages(&opened);
	return true;
}

/* What slots that are not filled yet may call the function. */
static void take_names(struct search *search, const struct image *home)
{
	size_t symbols = home->symbols ? image_symbol_count(home) : 0;
	for (size_t i = 0; i < symbols && search->name_count < NAMES_MAX; i++) {
		const Elf64_Sym *symbol = &home->symbols[i];
		int type = ELF64_ST_TYPE(symbol->st_info);
		bool code = type == STT_FUNC || type == STT_NOTYPE || (type == STT_GNU_IFUNC && finder_resolves());
		if (!code || symbol->st_shndx == SHN_UNDEF || symbol->st_name >= home->string_bytes ||
		    image_symbol_address(home->base, symbol) != search->function)
			continue;
		const char *name = home->strings + symbol->st_name;
		if (finder_next(name, 0) == search->function)
			search->names[search->name_count++] = name;
	}
}

/* A slot that ld.so has not filled in yet leads back into its own module's PLT; its symbol tells what it will hold. A large
   program has a hundred thousand of them: names are compared, not looked up. */
static bool will_hold(const struct image *image, const Elf64_Rela *entry, uintptr_t value, const struct search *search)
{
	if (value < image->start || value >= image->end || !image->symbols)
		return false;
	const Elf64_Sym *symbol = &image->symbols[ELF64_R_SYM(entry->r_info)];
	for (uint32_t i = 0; i < search->name_count && symbol->st_name < image->string_bytes; i++)
		if (!strcmp(image->strings + symbol->st_name, search->names[i]))
			return true;
	return false;
}

static void look_through(const struct image *image, const Elf64_Rela *table, size_t bytes, void *context)
{
	struct search *search = context;
	for (size_t i = 0; table && i < bytes / sizeof *table; i++) {
		uint32_t type = (uint32_t)ELF64_R_TYPE(table[i].r_info);
		uintptr_t *slot = (uintptr_t *)(image->base + table[i].r_offset);
		if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64)
			continue;
		uintptr_t value = __atomic_load_n(slot, __ATOMIC_RELAXED);
		if (value == search->function ||
		    (type == R_X86_64_JUMP_SLOT && will_hold(image, &table[i], value, search)))
			search->slots += store(image, slot, search->stub);
	}
}

/* Calls `look` for the relocations of each of the module's tables. */
static void each_table(const struct image *image,
		       void (*look)(const struct image *image, const Elf64_Rela *table, size_t bytes, void *context),
		       void *context)
{
	const Elf64_Rela *jumps = NULL, *others = NULL;
	size_t jump_bytes = 0, other_bytes = 0;
	for (size_t i = 0; i < image->phdr_count; i++) {
		if (image->phdr[i].p_type != PT_DYNAMIC)
			continue;
		for (const Elf64_Dyn *d = (const Elf64_Dyn *)(image->base + image->phdr[i].p_vaddr);
		     d->d_tag != DT_NULL; d++) {
			uintptr_t pointer = d->d_un.d_ptr < image->base ? d->d_un.d_ptr + image->base : d->d_un.d_ptr;
			if (d->d_tag == DT_JMPREL)
				jumps = (const Elf64_Rela *)pointer;
			else if (d->d_tag == DT_PLTRELSZ)
				jump_bytes = d->d_un.d_val;
			else if (d->d_tag == DT_RELA)
				others = (const Elf64_Rela *)pointer;
			else if (d->d_tag == DT_RELASZ)
				other_bytes = d->d_un.d_val;
		}
	}
	look(image, jumps, jump_bytes, context);
	look(image, others, other_bytes, context);
}

static bool visit(void *context, const struct image *image)
{
	const struct search *search = context;
	/* Our own calls of it are nobody's business. */
	if (!image_ignored(image) && !image_is_linker(image) &&
	    (search->stub < image->start || search->stub >= image->end))
		each_table(image, look_through, context);
	return true;
}

static int report(const char *refused, const char **reason)
{
	*reason = refused;
	return refused ? -ENOTSUP : 0;
}

static uint32_t index_of(uintptr_t function)
{
	uint32_t index = 0;
	while (index < used && got_original[index] != function)
		index++;
	return index;
}

/* The function's stub, the one that it has or a new one, in *index; NULL, or why there is none. */
static const char *take_stub(const struct mark_function *function, struct patch_callback made, bool register_arguments,
			     uint32_t *index)
{
	struct image image;
	*index = index_of(function->address);
	if (*index == GOT_STUBS)
		return "more functions than there are stubs for";
	const char *refused = image_of(function->address, &image) ? refuse_function(&image, function->address)
								  : "not code of a loaded module";
	if (refused)
		return refused;
	if (cfi_init())
		return "out of memory";
	if (!stub_used())
		stub_use(stub_pick());
	if (*index < used)
		return NULL;
	callbacks[*index] = made;
	records[*index] = (struct patch_record){.around = &callbacks[*index],
						.around_last = &callbacks[*index],
						.original = function->address,
						.address = function->address,
						.no_stack_arguments = register_arguments};
	got_record[*index] = &records[*index];
	got_original[*index] = function->address;
	return NULL;
}

int got_around(const struct mark_function *function, bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
	       void (*on_leave)(void *context, const uintptr_t *fp), void *context, bool register_arguments,
	       const char **reason)
{
	uint32_t index;
	struct patch_callback made = {.on_enter = on_enter, .context = context, .on_leave = on_leave};
	const char *refused = take_stub(function, made, register_arguments, &index);
	if (refused)
		return report(refused, reason);
	struct search search = {.function = function->address, .stub = stub_at_index(index)};
	struct image home;
	if (image_of(function->address, &home))
		take_names(&search, &home);
	image_each(visit, &search);
	if (!search.slots && index == used)
		return report("no module calls it through a table", reason);
	used += index == used;
	return report(NULL, reason);
}

int got_slot(const struct mark_function *function, uintptr_t slot,
	     bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
	     void (*on_leave)(void *context, const uintptr_t *fp), void *context, const char **reason)
{
	uint32_t index;
	struct image image;
	struct patch_callback made = {.on_enter = on_enter, .context = context, .on_leave = on_leave};
	const char *refused = take_stub(function, made, true, &index);
	if (refused)
		return report(refused, reason);
	uintptr_t held = image_of(slot, &image) ? *(const uintptr_t *)slot : 0;
	if (held != function->address && held != stub_at_index(index))
		return report("its module is not relocated yet", reason);
	if (!store(&image, (uintptr_t *)slot, stub_at_index(index)))
		return report("policy forbids writing its table", reason);
	used += index == used;
	return report(NULL, reason);
}

bool got_can_help(const char *reason)
{
	static const char *const words[] = {"policy forbids", "no disassembler", "no executable memory",
					    "other threads"};
	for (size_t i = 0; reason && i < sizeof words / sizeof words[0]; i++)
		if (!strncmp(reason, words[i], strlen(words[i])))
			return true;
	return false;
}

#define OWN_MAX 128u

static const struct got_own *own;
static size_t own_count;
static bool own_first[OWN_MAX]; /* of all definitions in load order our hook comes first */

void got_own(const struct got_own *list, size_t count)
{
	own = list;
	own_count = count < OWN_MAX ? count : OWN_MAX;
}

/* Asked for when the first module comes: most programs open none. */
static void know_own(void)
{
	static bool known;
	struct image self;
	if (known || !image_of((uintptr_t)&got_own, &self))
		return;
	known = true;
	for (size_t i = 0; i < own_count; i++) {
		uintptr_t first = finder_next(own[i].name, 0);
		own_first[i] = first >= self.start && first < self.end;
	}
}

struct adoption {
	bool (*is_new)(const struct image *image);
	const char *sought;
	bool defined;
};

static bool defines(void *context, const struct image *image)
{
	struct adoption *adoption = context;
	adoption->defined = adoption->is_new(image) && image_lookup(image, adoption->sought);
	return !adoption->defined;
}

/* A module that brings its own, or comes with a library that has it, keeps that. */
static const struct got_own *own_for(const char *name, struct adoption *adoption)
{
	for (size_t i = 0; i < own_count; i++)
		if (own_first[i] && !strcmp(own[i].name, name)) {
			adoption->sought = name;
			adoption->defined = false;
			image_each(defines, adoption);
			return adoption->defined ? NULL : &own[i];
		}
	return NULL;
}

/* ld.so fills the slot with what the resolver says. This relocation is the one that it takes in every table, whether
   binding is lazy or not. */
static bool resolve_by(const struct image *image, const Elf64_Rela *entry, uintptr_t resolver)
{
	Elf64_Rela ours = {.r_offset = entry->r_offset,
			   .r_info = ELF64_R_INFO(0, R_X86_64_IRELATIVE),
			   .r_addend = (Elf64_Sxword)(resolver - image->base)};
	struct opened opened;
	if (!open_pages(image, (uintptr_t)entry, (uintptr_t)(entry + 1), &opened))
		return false;
	*(Elf64_Rela *)entry = ours;
	close_pages(&opened);
	return true;
}

/* Until ld.so has relocated the module, the slot holds an address within it as it was linked, or nothing. */
static bool is_relocated(const struct image *image, const uintptr_t *slot)
{
	return __atomic_load_n(slot, __ATOMIC_RELAXED) > image->end - image->base;
}

static void adopt(const struct image *image, const Elf64_Rela *table, size_t bytes, void *context)
{
	for (size_t i = 0; table && i < bytes / sizeof *table; i++) {
		uint32_t type = (uint32_t)ELF64_R_TYPE(table[i].r_info),
			 symbol = (uint32_t)ELF64_R_SYM(table[i].r_info);
		if (!symbol || table[i].r_addend ||
		    (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT && type != R_X86_64_64))
			continue;
		const Elf64_Sym *asked = &image->symbols[symbol];
		const struct got_own *function = asked->st_shndx == SHN_UNDEF && asked->st_name < image->string_bytes
							 ? own_for(image->strings + asked->st_name, context)
							 : NULL;
		if (!function)
			continue;
		uintptr_t *slot = (uintptr_t *)(image->base + table[i].r_offset);
		if (is_relocated(image, slot))
			store(image, slot, (uintptr_t)function->resolve());
		else
			resolve_by(image, &table[i], (uintptr_t)function->resolve);
	}
}

static bool adopt_new(void *context, const struct image *image)
{
	struct adoption *adoption = context;
	if (adoption->is_new(image) && image->symbols && !image_is_linker(image) && !image_ignored(image))
		each_table(image, adopt, context);
	return true;
}

void got_adopt(bool (*is_new)(const struct image *image))
{
	struct adoption adoption = {.is_new = is_new};
	know_own();
	image_each(adopt_new, &adoption);
}
