/*
 * Symbol tables, read for finder.c while markers are bound. A file on disk is believed only when its build-id is the
 * one in memory (a package upgrade may have replaced it), and every offset in it is checked against its size.
 */
#define _GNU_SOURCE
#include "core/mark/symbols.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/base.h"

/* Longer names are cut: nothing a person types is near that long. */
#define NAME_MAX_BYTES 4096

struct file {
	const uint8_t *bytes;
	size_t size;
};

static bool file_map(const char *path, struct file *file)
{
	int fd = base_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	struct stat status;
	void *bytes = MAP_FAILED;
	if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size >= (off_t)sizeof(Elf64_Ehdr))
		bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	base_close(fd);
	if (bytes == MAP_FAILED)
		return false;
	*file = (struct file){bytes, (size_t)status.st_size};
	return true;
}

static void file_unmap(const struct file *file)
{
	munmap((void *)file->bytes, file->size);
}

static const void *file_at(const struct file *file, uint64_t offset, uint64_t bytes)
{
	return offset <= file->size && bytes <= file->size - offset ? file->bytes + offset : NULL;
}

/* The section headers, or NULL for anything but a 64-bit ELF file with a sound table. */
static const Elf64_Shdr *file_sections(const struct file *file, size_t *count)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file->bytes;
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
	    header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shoff % 8)
		return NULL;
	*count = header->e_shnum;
	return file_at(file, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr));
}

/* True when the file's build-id note says that it is this very module. A module without one is taken by its path. */
static bool file_is_of(const struct file *file, const Elf64_Shdr *sections, size_t count, const struct image *image)
{
	if (!image->build_id_bytes)
		return true;
	for (size_t i = 0; i < count; i++) {
		if (sections[i].sh_type != SHT_NOTE)
			continue;
		const uint8_t *note = file_at(file, sections[i].sh_offset, sections[i].sh_size);
		size_t header = sizeof(Elf64_Nhdr) + 4, size = sections[i].sh_size;
		if (note && size >= header + image->build_id_bytes &&
		    ((const Elf64_Nhdr *)note)->n_type == NT_GNU_BUILD_ID &&
		    ((const Elf64_Nhdr *)note)->n_descsz == image->build_id_bytes &&
		    !memcmp(note + header, image->build_id, image->build_id_bytes))
			return true;
	}
	return false;
}

static bool is_function(const Elf64_Sym *symbol)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS && symbol->st_value && symbol->st_name &&
	       (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE);
}

static bool visit_file_symbol(const struct symbols_visitor *visitor, const struct image *image, const char *name,
			      const Elf64_Sym *symbol)
{
	char plain[NAME_MAX_BYTES];
	const char *version = strchr(name, '@');
	if (!version)
		return visitor->visit(visitor->context, image, name, symbol);
	/* `name@VERSION` is an old version; `name@@VERSION` is what the name means. */
	if (version[1] != '@' || (size_t)(version - name) >= sizeof plain)
		return true;
	memcpy(plain, name, (size_t)(version - name));
	plain[version - name] = 0;
	return visitor->visit(visitor->context, image, plain, symbol);
}

static bool visit_table(const struct symbols_visitor *visitor, const struct image *image, const struct file *file,
			const Elf64_Shdr *sections, size_t count, const Elf64_Shdr *table)
{
	if (table->sh_link >= count || table->sh_entsize != sizeof(Elf64_Sym))
		return true;
	const Elf64_Shdr *text = &sections[table->sh_link];
	const Elf64_Sym *symbol = file_at(file, table->sh_offset, table->sh_size);
	const char *strings = file_at(file, text->sh_offset, text->sh_size);
	if (!symbol || table->sh_offset % 8 || !strings || !text->sh_size || strings[text->sh_size - 1])
		return true;
	for (size_t i = 0; i < table->sh_size / sizeof *symbol; i++)
		if (is_function(&symbol[i]) && symbol[i].st_name < text->sh_size &&
		    !visit_file_symbol(visitor, image, strings + symbol[i].st_name, &symbol[i]))
			return false;
	return true;
}

/* False when the visitor stopped; *found tells whether the file had a .symtab. */
static bool visit_file(const struct symbols_visitor *visitor, const struct image *image, const char *path, bool *found)
{
	struct file file;
	size_t count;
	bool go_on = true;
	if (!file_map(path, &file))
		return true;
	const Elf64_Shdr *sections = file_sections(&file, &count);
	if (sections && file_is_of(&file, sections, count, image))
		for (size_t i = 0; i < count && go_on; i++)
			if (sections[i].sh_type == SHT_SYMTAB) {
				*found = true;
				go_on = visit_table(visitor, image, &file, sections, count, &sections[i]);
			}
	file_unmap(&file);
	return go_on;
}

static bool visit_dynamic(const struct symbols_visitor *visitor, const struct image *image)
{
	size_t count = image->symbols ? image_symbol_count(image) : 0;
	for (size_t i = 0; i < count; i++) {
		const Elf64_Sym *symbol = &image->symbols[i];
		const char *name = image->strings + symbol->st_name;
		if (!is_function(symbol) || symbol->st_name >= image->string_bytes)
			continue;
		/* An old version counts only when the name has no current one. */
		if (image_hidden_version(image, i) && image_lookup(image, name) != symbol)
			continue;
		if (!visitor->visit(visitor->context, image, name, symbol))
			return false;
	}
	return true;
}

static bool debug_path(const struct image *image, char *out, size_t out_bytes)
{
	static const char folder[] = "/usr/lib/debug/.build-id/", hex[] = "0123456789abcdef";
	if (image->build_id_bytes < 2 || sizeof folder + image->build_id_bytes * 2 + sizeof "/.debug" > out_bytes)
		return false;
	char *end = out + base_text_copy(out, out_bytes, folder);
	for (size_t i = 0; i < image->build_id_bytes; i++) {
		*end++ = hex[image->build_id[i] >> 4];
		*end++ = hex[image->build_id[i] & 15];
		if (i == 0)
			*end++ = '/';
	}
	base_text_copy(end, sizeof ".debug", ".debug");
	return true;
}

bool symbols_each(const struct image *image, const struct symbols_visitor *visitor)
{
	char path[256];
	bool has_symtab = false;
	if (!visit_dynamic(visitor, image))
		return false;
	if (!visit_file(visitor, image, image->main_program ? "/proc/self/exe" : image->name, &has_symtab))
		return false;
	return has_symtab || !debug_path(image, path, sizeof path) || visit_file(visitor, image, path, &has_symtab);
}
