/*
 * Reading the ELF modules of this process from memory. Works before any constructor has run and inside the very first
 * allocation: dl_iterate_phdr is the only thing asked of libc, no symbol is looked up through it.
 */
#define _GNU_SOURCE
#include "core/mark/image.h"

#include <string.h>
#include <sys/auxv.h>

#include "core/base.h"
#include "core/library.h"

/* ld.so relocates the pointers of a dynamic section in place, except in read-only ones. */
static uintptr_t dynamic_pointer(const struct image *image, uintptr_t value)
{
	return value < image->base ? value + image->base : value;
}

/* The number of symbols: one more than the highest index that any chain of the GNU hash table reaches. */
static size_t gnu_hash_symbols(const uint32_t *hash)
{
	uint32_t buckets = hash[0], first = hash[1], bloom_words = hash[2], highest = 0;
	const uint32_t *bucket = hash + 4 + (size_t)bloom_words * 2, *chain = bucket + buckets;
	for (uint32_t i = 0; i < buckets; i++)
		if (bucket[i] > highest)
			highest = bucket[i];
	if (highest < first)
		return first;
	while (!(chain[highest - first] & 1))
		highest++;
	return (size_t)highest + 1;
}

static void read_dynamic(struct image *image, const Elf64_Dyn *dynamic)
{
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		uintptr_t value = dynamic_pointer(image, dynamic->d_un.d_ptr);
		switch (dynamic->d_tag) {
		case DT_SYMTAB:
			image->symbols = (const Elf64_Sym *)value;
			break;
		case DT_STRTAB:
			image->strings = (const char *)value;
			break;
		case DT_STRSZ:
			image->string_bytes = dynamic->d_un.d_val;
			break;
		case DT_VERSYM:
			image->versions = (const uint16_t *)value;
			break;
		case DT_GNU_HASH:
			image->gnu_hash = (const uint32_t *)value;
			break;
		case DT_HASH:
			image->sysv_hash = (const uint32_t *)value;
			break;
		}
	}
	if (!image->symbols || !image->strings)
		image->gnu_hash = image->sysv_hash = NULL;
}

static void read_notes(struct image *image, const uint8_t *note, size_t bytes)
{
	const uint8_t *end = note + bytes;
	while ((size_t)(end - note) >= sizeof(Elf64_Nhdr)) {
		const Elf64_Nhdr *header = (const Elf64_Nhdr *)note;
		size_t name = round_up(header->n_namesz, 4), content = round_up(header->n_descsz, 4);
		const uint8_t *description = note + sizeof *header + name;
		if (name > bytes || content > bytes || content + name + sizeof *header > (size_t)(end - note))
			return;
		if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 && !memcmp(header + 1, "GNU", 4)) {
			image->build_id = description;
			image->build_id_bytes = header->n_descsz;
			return;
		}
		note = description + content;
	}
}

/* False for the vdso: its functions are no module's, and it comes before libc in the list. */
static bool image_read(struct image *image, const struct dl_phdr_info *info)
{
	*image = (struct image){.base = info->dlpi_addr,
				.start = UINTPTR_MAX,
				.name = info->dlpi_name ? info->dlpi_name : "",
				.phdr = info->dlpi_phdr,
				.phdr_count = info->dlpi_phnum};
	const Elf64_Dyn *dynamic = NULL;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t address = image->base + header->p_vaddr;
		if (header->p_type == PT_LOAD) {
			if (address < image->start)
				image->start = address;
			if (address + header->p_memsz > image->end)
				image->end = address + header->p_memsz;
		} else if (header->p_type == PT_DYNAMIC) {
			dynamic = (const Elf64_Dyn *)address;
		} else if (header->p_type == PT_NOTE && !image->build_id) {
			read_notes(image, (const uint8_t *)address, header->p_memsz);
		}
	}
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
	if (image->start >= image->end || (vdso >= image->start && vdso < image->end))
		return false;
	if (dynamic)
		read_dynamic(image, dynamic);
	return true;
}

size_t image_symbol_count(const struct image *image)
{
	if (image->gnu_hash)
		return gnu_hash_symbols(image->gnu_hash);
	return image->sysv_hash ? image->sysv_hash[1] : 0;
}

struct walk {
	bool (*visit)(void *context, const struct image *image);
	void *context;
	bool first;
};

static int walk_one(struct dl_phdr_info *info, size_t bytes, void *context)
{
	struct walk *walk = context;
	struct image image;
	(void)bytes;
	bool main_program = walk->first;
	walk->first = false;
	if (!image_read(&image, info))
		return 0;
	image.main_program = main_program;
	return !walk->visit(walk->context, &image);
}

void image_each(bool (*visit)(void *context, const struct image *image), void *context)
{
	struct walk walk = {.visit = visit, .context = context, .first = true};
	dl_iterate_phdr(walk_one, &walk);
}

struct search {
	uintptr_t address;
	struct image *found;
	bool done;
};

static bool search_one(void *context, const struct image *image)
{
	struct search *search = context;
	if (search->address < image->start || search->address >= image->end)
		return true;
	*search->found = *image;
	search->done = true;
	return false;
}

bool image_of(uintptr_t address, struct image *image)
{
	struct search search = {.address = address, .found = image};
	image_each(search_one, &search);
	return search.done;
}

bool image_ignored(const struct image *image)
{
	return library_is_ours(image->start, image->end);
}

/* By address, or by name where the program was started through ld.so itself. */
bool image_is_linker(const struct image *image)
{
	const char *slash = strrchr(image->name, '/');
	return image->base == getauxval(AT_BASE) || !strncmp(slash ? slash + 1 : image->name, "ld-linux", 8);
}

bool image_executable(const struct image *image, uintptr_t address, size_t bytes)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t before = address - (image->base + header->p_vaddr); /* huge where it lies below */
		if (header->p_type == PT_LOAD && header->p_flags & PF_X && before <= header->p_memsz &&
		    bytes <= header->p_memsz - before)
			return true;
	}
	return false;
}

static bool usable(const Elf64_Sym *symbol)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info), binding = ELF64_ST_BIND(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && symbol->st_value && binding != STB_LOCAL &&
	       (type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE || type == STT_GNU_IFUNC);
}

bool image_hidden_version(const struct image *image, size_t index)
{
	return image->versions && image->versions[index] & 0x8000;
}

/* One candidate: a default version ends the search, an old one is kept for want of better. */
static bool consider(const struct image *image, uint32_t index, const char *name, const Elf64_Sym **best)
{
	const Elf64_Sym *symbol = &image->symbols[index];
	if (!usable(symbol) || !base_text_equal(image->strings + symbol->st_name, name))
		return false;
	if (!image_hidden_version(image, index)) {
		*best = symbol;
		return true;
	}
	if (!*best)
		*best = symbol;
	return false;
}

static const Elf64_Sym *gnu_lookup(const struct image *image, const char *name)
{
	uint32_t hash = 5381;
	for (const uint8_t *c = (const uint8_t *)name; *c; c++)
		hash = hash * 33 + *c;
	const uint32_t *table = image->gnu_hash;
	uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
	const uint64_t *bloom = (const uint64_t *)(table + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
	if (!buckets || !words)
		return NULL;
	uint64_t mask = 1ull << hash % 64 | 1ull << (hash >> shift) % 64;
	if ((bloom[hash / 64 % words] & mask) != mask)
		return NULL;
	const Elf64_Sym *best = NULL;
	uint32_t index = bucket[hash % buckets];
	if (index < first)
		return NULL;
	for (;; index++) {
		uint32_t entry = chain[index - first];
		if ((entry | 1) == (hash | 1) && consider(image, index, name, &best))
			break;
		if (entry & 1)
			break;
	}
	return best;
}

static const Elf64_Sym *sysv_lookup(const struct image *image, const char *name)
{
	uint32_t hash = 0;
	for (const uint8_t *c = (const uint8_t *)name; *c; c++) {
		hash = (hash << 4) + *c;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	const uint32_t *table = image->sysv_hash;
	const uint32_t *bucket = table + 2, *chain = bucket + table[0];
	const Elf64_Sym *best = NULL;
	if (!table[0])
		return NULL;
	for (uint32_t index = bucket[hash % table[0]]; index; index = chain[index])
		if (consider(image, index, name, &best))
			break;
	return best;
}

const Elf64_Sym *image_lookup(const struct image *image, const char *name)
{
	if (image->gnu_hash)
		return gnu_lookup(image, name);
	return image->sysv_hash ? sysv_lookup(image, name) : NULL;
}

typedef uintptr_t image_resolver(void);

uintptr_t image_symbol_address(uintptr_t base, const Elf64_Sym *symbol)
{
	uintptr_t address = symbol->st_shndx == SHN_ABS ? symbol->st_value : base + symbol->st_value;
	if (ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC)
		address = ((image_resolver *)address)();
	return address;
}
