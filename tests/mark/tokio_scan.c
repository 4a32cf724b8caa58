/*
 * Maps an ELF file as ld.so would, relocates what core/mark/tokio.c reads, and prints what is found there: so that the
 * finder meets any binary, also one that cannot be run here. `tokio_scan [--raw] FILE...`; --raw leaves the relocations
 * undone, as in a module that is just being loaded.
 *   FILE seen=yes|no version=X.Y.Z
 *   FILE table poll=0x... schedule=0x... dealloc=0x...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mark/tokio.h"

#define PAGE 4095ul

static void fail(const char *file, const char *what)
{
	fprintf(stderr, "%s: %s\n", file, what);
	exit(2);
}

static void map_segments(int fd, const Elf64_Ehdr *elf, struct image *image, const char *name)
{
	uintptr_t low = UINTPTR_MAX, high = 0;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		if (header->p_type != PT_LOAD)
			continue;
		low = header->p_vaddr < low ? header->p_vaddr : low;
		high = header->p_vaddr + header->p_memsz > high ? header->p_vaddr + header->p_memsz : high;
	}
	if (low > high)
		fail(name, "nothing to map");
	/* What is not position-independent goes where it says. */
	bool fixed = elf->e_type == ET_EXEC;
	low &= ~PAGE;
	uint8_t *at = mmap(fixed ? (void *)low : NULL, high - low + PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (at == MAP_FAILED)
		fail(name, "cannot be mapped");
	at -= low;
	image->base = (uintptr_t)at;
	image->start = image->base + low;
	image->end = image->base + high;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uint64_t skip = header->p_offset & PAGE;
		if (header->p_type == PT_LOAD && header->p_filesz &&
		    mmap(at + header->p_vaddr - skip, header->p_filesz + skip, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED, fd, (off_t)(header->p_offset - skip)) == MAP_FAILED)
			fail(name, "a segment cannot be mapped");
	}
}

static void relocate(const struct image *image)
{
	uintptr_t table = 0, packed = 0;
	size_t bytes = 0, packed_bytes = 0;
	for (size_t i = 0; i < image->phdr_count; i++) {
		if (image->phdr[i].p_type != PT_DYNAMIC)
			continue;
		for (const Elf64_Dyn *d = (const Elf64_Dyn *)(image->base + image->phdr[i].p_vaddr);
		     d->d_tag != DT_NULL; d++) {
			uintptr_t value = d->d_un.d_val;
			table = d->d_tag == DT_RELA ? image->base + value : table;
			bytes = d->d_tag == DT_RELASZ ? value : bytes;
			packed = d->d_tag == 36 ? image->base + value : packed; /* DT_RELR */
			packed_bytes = d->d_tag == 35 ? value : packed_bytes;
		}
	}
	for (const Elf64_Rela *r = (const Elf64_Rela *)table; bytes >= sizeof *r; r++, bytes -= sizeof *r) {
		uintptr_t value = image->base + (uintptr_t)r->r_addend;
		if (ELF64_R_TYPE(r->r_info) == R_X86_64_RELATIVE)
			memcpy((void *)(image->base + r->r_offset), &value, sizeof value); /* packed structs too */
	}
	uintptr_t *where = NULL;
	for (const uintptr_t *r = (const uintptr_t *)packed; packed_bytes >= sizeof *r;
	     r++, packed_bytes -= sizeof *r) {
		if (!(*r & 1)) {
			where = (uintptr_t *)(image->base + *r);
			*where++ += image->base;
			continue;
		}
		for (size_t bit = 1; bit < 64; bit++)
			if (*r >> bit & 1)
				where[bit - 1] += image->base;
		where += 63;
	}
}

struct printing {
	const struct image *image;
	const char *name;
};

static bool print_table(void *context, const struct tokio_table *table)
{
	const struct printing *printing = context;
	uintptr_t base = printing->image->base;
	printf("%s table poll=0x%lx schedule=0x%lx dealloc=0x%lx\n", printing->name, table->poll - base,
	       table->schedule - base, table->dealloc - base);
	return true;
}

static void scan_file(const char *name, bool raw)
{
	char version[TOKIO_VERSION_BYTES];
	struct stat status;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) || (size_t)status.st_size < sizeof(Elf64_Ehdr))
		fail(name, "cannot be read");
	const Elf64_Ehdr *elf = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (elf == MAP_FAILED || memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0)
		fail(name, "no ELF file");
	struct image image = {.name = name,
			      .phdr = (const Elf64_Phdr *)((const char *)elf + elf->e_phoff),
			      .phdr_count = elf->e_phnum};
	map_segments(fd, elf, &image, name);
	if (!raw)
		relocate(&image);
	bool seen = tokio_seen(&image, version);
	printf("%s seen=%s version=%s\n", name, seen ? "yes" : "no", version);
	tokio_tables(&image, print_table, &(struct printing){&image, name});
	munmap((void *)elf, (size_t)status.st_size);
	munmap((void *)(image.start & ~PAGE), image.end - (image.start & ~PAGE));
	close(fd);
}

int main(int argc, char **argv)
{
	bool raw = argc > 1 && strcmp(argv[1], "--raw") == 0;
	for (int i = 1 + raw; i < argc; i++)
		scan_file(argv[i], raw);
	return 0;
}
