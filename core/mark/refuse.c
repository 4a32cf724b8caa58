/*
 * The functions that a patch would break by design: those that return twice, that look at who called them, or that
 * have a calling convention of their own. Told apart by address, so that aliases count. Then what only looks like a
 * function: the parts that compilers move away (`f.cold`), which are entered with a frame on the stack, or with live data
 * below it; and code that its program copies elsewhere before running it, where a relative jump leads astray.
 */
#define _GNU_SOURCE
#include "core/mark/refuse.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/mark/decode.h"
#include "core/mark/extent.h"
#include "core/mark/symbols.h"
#include "core/path/cfi.h"

#define INSTRUCTION_MAX_BYTES 15

struct refusal {
	const char *reason;
	const char *names[12];
};

static const struct refusal refusals[] = {
	{"it returns twice",
	 {"setjmp", "_setjmp", "__sigsetjmp", "sigsetjmp", "vfork", "__vfork", "getcontext", "__getcontext",
	  "savectx"}},
	{"it looks at its caller", {"dlopen", "dlmopen", "dlsym", "dlvsym", "mcount", "_mcount", "__fentry__"}},
	{"it has a calling convention of its own", {"__tls_get_addr", "___tls_get_addr", "__tls_get_addr_slow"}},
};

struct extent {
	uintptr_t start, end;
};

static bool extent_of(const struct image *image, uintptr_t address, struct extent *extent)
{
	size_t size = 0;
	if (!extent_find(image, address, &extent->start, &size))
		return false;
	extent->end = extent->start + size;
	return true;
}

/* Calls `wanted` for each direct jump of the code, until it says yes. */
static bool any_jump(struct extent code, bool (*wanted)(void *context, uintptr_t target), void *context)
{
	struct instruction instruction;
	for (uintptr_t at = code.start; at < code.end;) {
		size_t left = code.end - at < INSTRUCTION_MAX_BYTES ? code.end - at : INSTRUCTION_MAX_BYTES;
		if (!decode((const uint8_t *)at, left, at, &instruction)) {
			at++;
			continue;
		}
		bool jump = instruction.kind >= INSTRUCTION_JUMP && instruction.kind <= INSTRUCTION_JUMP_COUNTING;
		if (jump && wanted(context, instruction.target))
			return true;
		at += instruction.length;
	}
	return false;
}

struct part {
	const struct image *image;
	struct extent own, whole;
};

static bool is_start(void *context, uintptr_t target)
{
	const struct part *part = context;
	return target == part->own.start;
}

static bool leads_back(void *context, uintptr_t target)
{
	struct part *part = context;
	struct extent before = part->whole;
	if (target >= part->own.start && target < part->own.end)
		return false;
	if (!extent_of(part->image, target, &part->whole) || part->whole.start == target)
		return false;
	/* Looked through for an earlier jump already. */
	return part->whole.start != before.start && any_jump(part->whole, is_start, part);
}

/* It jumps into the middle of a function that jumps to its start: without a frame yet, but with data below the stack
   pointer perhaps. */
static bool is_part(const struct image *image, uintptr_t address)
{
	struct part part = {.image = image, .whole = {.start = 0}};
	return extent_of(image, address, &part.own) && part.own.start == address &&
	       any_jump(part.own, leads_back, &part);
}

/* V8 copies its builtins next to the code that it generates. They are named, if at all, in .symtab only. */
static struct copied_code {
	uintptr_t module_start, module_end;
	uintptr_t start;
	size_t bytes;
} copied;

static bool take_copied(void *context, const struct image *image, const char *name, const Elf64_Sym *symbol)
{
	(void)context;
	if (base_text_equal(name, "v8_Default_embedded_blob_code_"))
		copied.start = image->base + symbol->st_value;
	else if (base_text_equal(name, "v8_Default_embedded_blob_code_size_"))
		copied.bytes = *(const uint32_t *)(image->base + symbol->st_value);
	return !copied.start || !copied.bytes;
}

static bool is_copied(const struct image *image, uintptr_t address)
{
	struct symbols_visitor visitor = {take_copied, NULL};
	if (copied.module_start != image->start || copied.module_end != image->end) {
		copied = (struct copied_code){.module_start = image->start, .module_end = image->end};
		symbols_each(image, &visitor);
	}
	return address - copied.start < copied.bytes;
}

static const char *with_a_frame(const struct image *image, uintptr_t address)
{
	struct extent whole;
	return extent_of(image, address, &whole) && whole.start != address
		       ? "the address is not the start of a function"
		       : "it is entered with a frame on the stack";
}

/* Go's linker leaves a note of this name; its functions have no unwind table, unlike C code that was linked in. */
static bool is_go(const struct image *image)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		const uint8_t *at = (const uint8_t *)(image->base + header->p_vaddr), *end = at + header->p_memsz;
		while (header->p_type == PT_NOTE && (size_t)(end - at) >= sizeof(Elf64_Nhdr) + 4) {
			const Elf64_Nhdr *note = (const Elf64_Nhdr *)at;
			if (note->n_namesz == 4 && !memcmp(note + 1, "Go\0", 4))
				return true;
			size_t bytes = sizeof *note + round_up(note->n_namesz, 4) + round_up(note->n_descsz, 4);
			if (bytes > (size_t)(end - at))
				break;
			at += bytes;
		}
	}
	return false;
}

static const char *refuse_place(const struct image *image, uintptr_t address)
{
	struct cfi_row row = cfi_row_of(address, true);
	switch (row.kind) {
	case CFI_NONE:
		if (is_go(image))
			return "it may run on the small stack of a goroutine";
		return is_copied(image, address) ? "its program copies it before running it" : NULL;
	case CFI_END:
		return NULL;
	case CFI_SP:
		if (row.cfa == sizeof(uintptr_t))
			return is_part(image, address) ? "it is a part of another function" : NULL;
		return with_a_frame(image, address);
	default:
		return with_a_frame(image, address);
	}
}

const char *refuse_function(const struct image *image, uintptr_t address)
{
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
		for (const char *const *name = refusals[i].names; *name; name++) {
			const Elf64_Sym *symbol = image_lookup(image, *name);
			if (symbol && ELF64_ST_TYPE(symbol->st_info) != STT_GNU_IFUNC &&
			    image_symbol_address(image->base, symbol) == address)
				return refusals[i].reason;
		}
	/* All of it: symbol resolution and thread-local storage enter it with a convention that no compiler knows. */
	if (image_is_linker(image))
		return "it belongs to the dynamic linker";
	return refuse_place(image, address);
}

/* Parts of the unwinder start from their own return address, and those parts have no names. */
const char *refuse_frame(uintptr_t address)
{
	struct image image;
	if (!image_of(address, &image))
		return NULL;
	const char *slash = strrchr(image.name, '/'), *file = slash ? slash + 1 : image.name;
	bool unwinder = base_glob_match("libgcc_s.so*", file) || base_glob_match("libunwind*.so*", file);
	return unwinder ? "it belongs to the unwinder" : NULL;
}

/* num_threads is the 20th field; the second one is in parentheses and may hold anything. */
static long thread_count(void)
{
	char text[1024];
	int fd = base_open("/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	ssize_t length = base_read(fd, text, sizeof text - 1);
	base_close(fd);
	if (length <= 0)
		return -1;
	text[length] = 0;
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 20; field++)
		at = strchr(at + 1, ' ');
	long count = 0;
	for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		count = count * 10 + (*at - '0');
	return count ? count : -1;
}

/* Without /proc glibc's own word is taken; it errs to the safe side. */
static bool libc_says_single(void)
{
	extern char __libc_single_threaded __attribute__((weak));
	return &__libc_single_threaded && __libc_single_threaded;
}

const char *refuse_now(void)
{
	long count = thread_count();
	if (count < 0 ? libc_says_single() : count == 1)
		return NULL;
	return "other threads are running already";
}
