/*
 * Finds COMMAND's file and reads enough of it to tell programs that ld.so or the shim could only fail silently in:
 * static, privileged, foreign, sanitized ones and those that bring their own malloc. Never fails a run: a file that
 * cannot be read is let through, and the handshake tells.
 */
#define _GNU_SOURCE
#include "tools/fa-run/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPT_LEVELS 5 /* as deep as the kernel follows `#!` */

struct image {
	const unsigned char *data;
	size_t bytes;
};

static int check_file(const char *path)
{
	struct stat file;
	if (stat(path, &file))
		return -errno;
	if (!S_ISREG(file.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
		return -EACCES;
	return 0;
}

int program_find(const char *name, char path[PATH_MAX])
{
	if (strchr(name, '/')) {
		if (strlen(name) >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(path, name);
		return check_file(path);
	}
	int result = -ENOENT;
	const char *search = getenv("PATH");
	if (!search)
		search = "/bin:/usr/bin";
	while (name[0]) {
		int length = (int)strcspn(search, ":");
		int written = snprintf(path, PATH_MAX, "%.*s%s%s", length, search, length ? "/" : "./", name);
		int error = written < PATH_MAX ? check_file(path) : -ENOENT;
		if (error == 0)
			return 0;
		if (error == -EACCES)
			result = -EACCES;
		if (!search[length])
			break;
		search += length + 1;
	}
	return result;
}

/* A table of `count` entries of `size` bytes at `offset`, or NULL when it is not wholly inside the file. */
static const void *image_at(const struct image *image, uint64_t offset, uint64_t count, uint64_t size)
{
	uint64_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes) || offset > image->bytes || bytes > image->bytes - offset ||
	    offset % 8)
		return NULL;
	return image->data + offset;
}

struct traits {
	bool own_malloc;
	bool is_loader; /* ld.so itself: run by hand it preloads as usual */
	bool uses_jemalloc;
	const char *sanitizer;
};

static void look_at_dynamic(const char *name, bool is_soname, struct traits *traits)
{
	if (is_soname) {
		traits->is_loader = strncmp(name, "ld-linux-x86-64.so", 18) == 0;
		return;
	}
	static const char *const libraries[][2] = {{"libasan.so", "AddressSanitizer"},
						   {"libtsan.so", "ThreadSanitizer"},
						   {"liblsan.so", "LeakSanitizer"},
						   {"libhwasan.so", "HWAddressSanitizer"}};
	if (strncmp(name, "libjemalloc.so", 14) == 0)
		traits->uses_jemalloc = true;
	for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++)
		if (strncmp(name, libraries[i][0], strlen(libraries[i][0])) == 0)
			traits->sanitizer = libraries[i][1];
}

static void look_at_symbol(const char *name, const Elf64_Sym *symbol, bool dynamic, struct traits *traits)
{
	static const char *const entries[][2] = {{"__asan_init", "AddressSanitizer"},
						 {"__tsan_init", "ThreadSanitizer"},
						 {"__lsan_init", "LeakSanitizer"},
						 {"__msan_init", "MemorySanitizer"},
						 {"__hwasan_init", "HWAddressSanitizer"}};
	if (dynamic && symbol->st_shndx != SHN_UNDEF && strcmp(name, "malloc") == 0)
		traits->own_malloc = true;
	if (name[0] != '_' || name[1] != '_')
		return;
	for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
		if (strcmp(name, entries[i][0]) == 0)
			traits->sanitizer = entries[i][1];
}

static void look_at_section(const struct image *image, const Elf64_Shdr *sections, unsigned count, unsigned which,
			    struct traits *traits)
{
	const Elf64_Shdr *section = &sections[which];
	bool symbols = section->sh_type == SHT_DYNSYM || section->sh_type == SHT_SYMTAB;
	if ((!symbols && section->sh_type != SHT_DYNAMIC) || section->sh_link >= count)
		return;
	const Elf64_Shdr *names = &sections[section->sh_link];
	if (names->sh_offset > image->bytes || names->sh_size > image->bytes - names->sh_offset || !names->sh_size)
		return;
	const char *text = (const char *)image->data + names->sh_offset;
	if (text[names->sh_size - 1])
		return;

	uint64_t entries = section->sh_size / (symbols ? sizeof(Elf64_Sym) : sizeof(Elf64_Dyn));
	const void *table =
		image_at(image, section->sh_offset, entries, symbols ? sizeof(Elf64_Sym) : sizeof(Elf64_Dyn));
	for (uint64_t i = 0; table && i < entries; i++) {
		const Elf64_Sym *symbol = (const Elf64_Sym *)table + i;
		const Elf64_Dyn *dynamic = (const Elf64_Dyn *)table + i;
		if (symbols && symbol->st_name < names->sh_size)
			look_at_symbol(text + symbol->st_name, symbol, section->sh_type == SHT_DYNSYM, traits);
		else if (!symbols && (dynamic->d_tag == DT_NEEDED || dynamic->d_tag == DT_SONAME) &&
			 dynamic->d_un.d_val < names->sh_size)
			look_at_dynamic(text + dynamic->d_un.d_val, dynamic->d_tag == DT_SONAME, traits);
	}
}

/* Says why an ELF file does not suit, or NULL. */
static const char *judge_elf(const struct image *image, struct traits *traits, char *buffer, size_t buffer_bytes)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)image->data;
	if (image->data[EI_CLASS] == ELFCLASS32)
		return "is a 32-bit program, and libframealloc.so is for 64-bit ones";
	if (image->bytes < sizeof *header || header->e_machine != EM_X86_64)
		return "is built for another processor than x86-64";

	const Elf64_Phdr *segments = image_at(image, header->e_phoff, header->e_phnum, sizeof *segments);
	const Elf64_Phdr *interpreter = NULL;
	for (unsigned i = 0; segments && i < header->e_phnum; i++)
		if (segments[i].p_type == PT_INTERP)
			interpreter = &segments[i];
	const Elf64_Shdr *sections = image_at(image, header->e_shoff, header->e_shnum, sizeof *sections);
	for (unsigned i = 0; sections && i < header->e_shnum; i++)
		look_at_section(image, sections, header->e_shnum, i, traits);

	if (traits->is_loader)
		return NULL;
	if (!interpreter)
		return "is statically linked, and nothing can be preloaded into it";
	if (interpreter->p_offset < image->bytes && interpreter->p_filesz <= image->bytes - interpreter->p_offset &&
	    memmem(image->data + interpreter->p_offset, interpreter->p_filesz, "ld-musl", 7))
		return "is linked with musl, and libframealloc.so is for glibc";
	if (traits->sanitizer) {
		snprintf(buffer, buffer_bytes, "is built with %s, which has to own the heap", traits->sanitizer);
		return buffer;
	}
	if (traits->own_malloc)
		return "exports its own malloc, which takes precedence over a preloaded one";
	return NULL;
}

/* The interpreter in a script's first line; for `#!/usr/bin/env NAME` the program that NAME is. */
static bool script_interpreter(const struct image *image, char path[PATH_MAX])
{
	char line[256];
	size_t length = image->bytes < sizeof line ? image->bytes : sizeof line - 1;
	memcpy(line, image->data, length);
	line[length] = 0;
	line[strcspn(line, "\n")] = 0;
	char *rest = NULL, *word = strtok_r(line + 2, " \t", &rest);
	if (!word)
		return false;
	const char *slash = strrchr(word, '/');
	char *argument = strtok_r(NULL, " \t", &rest);
	if (slash && strcmp(slash, "/env") == 0 && argument) {
		if (strcmp(argument, "-S") == 0)
			argument = strtok_r(NULL, " \t", &rest);
		if (argument && argument[0] != '-' && !strchr(argument, '=') && program_find(argument, path) == 0)
			return true;
	}
	snprintf(path, PATH_MAX, "%s", word);
	return true;
}

static bool map_file(const char *path, struct image *image, struct stat *file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	void *data = MAP_FAILED;
	file->st_size = 0;
	if (fstat(fd, file) == 0 && S_ISREG(file->st_mode) && file->st_size > EI_NIDENT)
		data = mmap(NULL, (size_t)file->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	*image = (struct image){data, (size_t)file->st_size};
	return data != MAP_FAILED;
}

static void inspect(const char *path, unsigned level, struct program *program)
{
	struct image image;
	struct stat file;
	if (!map_file(path, &image, &file)) {
		/* Setuid programs are often executable but not readable. */
		if (stat(path, &file))
			return;
		image.data = NULL;
	}
	const char *reason = NULL;
	char buffer[128], interpreter[PATH_MAX];
	bool elf = image.data && memcmp(image.data, ELFMAG, SELFMAG) == 0;
	bool script = image.data && memcmp(image.data, "#!", 2) == 0 && script_interpreter(&image, interpreter);
	struct traits traits = {0};
	if (!script && file.st_mode & (S_ISUID | S_ISGID))
		reason = file.st_mode & S_ISUID ? "is setuid, and the system does not preload into such programs"
						: "is setgid, and the system does not preload into such programs";
	else if (!script && getxattr(path, "security.capability", NULL, 0) > 0)
		reason = "has file capabilities, and the system does not preload into such programs";
	else if (elf)
		reason = judge_elf(&image, &traits, buffer, sizeof buffer);
	if (image.data)
		munmap((void *)image.data, image.bytes);

	program->uses_jemalloc = traits.uses_jemalloc;
	program->suits = !reason;
	if (reason)
		snprintf(program->why, sizeof program->why, "%s %s", path, reason);
	if (script && level < SCRIPT_LEVELS)
		inspect(interpreter, level + 1, program);
}

void program_inspect(const char *path, struct program *program)
{
	*program = (struct program){.suits = true};
	inspect(path, 0, program);
}

bool program_is_text(const char *path)
{
	char start[256];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : read(fd, start, sizeof start);
	if (fd >= 0)
		close(fd);
	return bytes >= 0 && !memchr(start, 0, (size_t)bytes) &&
	       !(bytes >= SELFMAG && memcmp(start, ELFMAG, SELFMAG) == 0);
}
