/*
 * Images: the ELF modules mapped in this process, read from memory. symbols.c, finder.c, extent.c and near.c work on
 * them. Nothing here allocates or keeps a lock; an image is valid inside image_each's callback, and as long after as
 * its module stays loaded.
 */
#ifndef FA_MARK_IMAGE_H
#define FA_MARK_IMAGE_H

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
	uintptr_t base; /* load bias: run-time address = base + address in the file */
	uintptr_t start, end; /* lowest and highest mapped address of its PT_LOADs */
	const char *name; /* dlpi_name; "" for the main program */
	bool main_program;
	const Elf64_Phdr *phdr;
	size_t phdr_count;

	/* The dynamic symbol table. */
	const Elf64_Sym *symbols;
	const char *strings;
	size_t string_bytes;
	const uint16_t *versions; /* NULL: no versions */
	const uint32_t *gnu_hash, *sysv_hash;

	const uint8_t *build_id;
	size_t build_id_bytes;
};

/* Calls `visit` for every module but the vdso, in load order, RTLD_LOCAL ones included, until it returns false. */
void image_each(bool (*visit)(void *context, const struct image *image), void *context);

/* Fills *image with the module that holds `address`; false when there is none. */
bool image_of(uintptr_t address, struct image *image);

/* Modules that the shim opened for itself: image_each goes on telling of them, finder_each passes them over. */
bool image_ignored(const struct image *image);

/* ld.so, which is mapped like any other module. */
bool image_is_linker(const struct image *image);

/* True when [address, address + bytes) lies in one executable segment of the image. */
bool image_executable(const struct image *image, uintptr_t address, size_t bytes);

/* Dynamic definition of `name`, its default version when there are several; NULL when there is none. */
const Elf64_Sym *image_lookup(const struct image *image, const char *name);

/* Length of the dynamic symbol table, taken from the hash table, since no tag tells it. One pass over the buckets. */
size_t image_symbol_count(const struct image *image);

/* True when dynamic symbol `index` is not the default version of its name (`foo@OLD`). */
bool image_hidden_version(const struct image *image, size_t index);

/* Run-time address of a defined symbol; for an IFUNC the implementation that its resolver picks. */
uintptr_t image_symbol_address(uintptr_t base, const Elf64_Sym *symbol);

#endif
