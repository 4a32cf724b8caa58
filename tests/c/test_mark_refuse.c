/*
 * What must not be patched is refused, each for its reason, and its twin without that trouble is not. Then the index of
 * branches: for a third of the functions of libc and libm it gives the answer that searching the whole module gives.
 * Sources: core/mark/finder.c core/mark/finder_next.c core/mark/image.c core/mark/symbols.c core/mark/names.c
 * core/mark/demangle.c core/mark/decode.c core/mark/extent.c core/mark/near.c core/mark/refuse.c core/mark/patch.c
 * core/mark/patch_relocate.c core/mark/patch_scan.c core/mark/patch_index.c core/mark/patch_stub.c core/mark/patch_stub.S
 * core/mark/patch_run.c core/mark/arguments.c core/mark/got.c core/mark/got_stub.S core/path/cfi.c core/path/eh_frame.c
 * core/path/module.c core/base.c core/library.c
 * (no sanitizer)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/mark/extent.h"
#include "core/mark/mark.h"
#include "core/mark/patch_scan.h"

/* FUNCTION opens one with unwind information; its end is END. */
__asm__(".macro FUNCTION name\n"
	".p2align 6\n.globl \\name\n.hidden \\name\n.type \\name,@function\n\\name:\n.cfi_startproc\n.endm\n"
	".macro END name\n.cfi_endproc\n.size \\name,.-\\name\n.p2align 4\n.endm\n"
	".text\n"
	/* A part with a frame, and one without; both jump back to where they came from. */
	"FUNCTION r_whole\n"
	"mov %edi,%eax\ntest %edi,%edi\njs r_part\nr_whole_back: sub $24,%rsp\n.cfi_adjust_cfa_offset 24\ncmp "
	"$100,%edi\njg "
	"r_framed\nr_whole_end: add $24,%rsp\n.cfi_adjust_cfa_offset -24\nret\n"
	"END r_whole\n"
	"FUNCTION r_part\n"
	"neg %eax\nnop\nnop\nnop\njmp r_whole_back\n"
	"END r_part\n"
	"FUNCTION r_framed\n"
	".cfi_adjust_cfa_offset 24\nmov $100,%eax\njmp r_whole_end\n"
	"END r_framed\n"
	/* Jump tables of both kinds lead behind the first instruction. */
	"FUNCTION r_switch\n"
	"xor %eax,%eax\n1: inc %eax\nlea 3f(%rip),%rdx\nmov %edi,%ecx\nand $1,%ecx\nmovslq (%rdx,%rcx,4),%rcx\nadd "
	"%rdx,%rcx\ndec %edi\njmp *%rcx\n2: ret\n"
	".section .rodata\n.p2align 2\n3: .long 1b-3b,2b-3b\n.text\n"
	"END r_switch\n"
	"FUNCTION r_goto\n"
	"xor %eax,%eax\n1: inc %eax\nlea 3f(%rip),%rdx\nmov %edi,%ecx\nand $1,%ecx\ndec %edi\njmp *(%rdx,%rcx,8)\n2: "
	"ret\n"
	".section .data.rel.ro,\"aw\"\n.p2align 3\n3: .quad 2b,1b\n.text\n"
	"END r_goto\n"
	"FUNCTION r_fine_switch\n"
	"xor %eax,%eax\nmov %edi,%ecx\nlea 3f(%rip),%rdx\nand $1,%ecx\nmovslq (%rdx,%rcx,4),%rcx\nadd %rdx,%rcx\n"
	"jmp *%rcx\n1: inc %eax\n2: ret\n"
	".section .rodata\n.p2align 2\n3: .long 1b-3b,2b-3b\n.text\n"
	"END r_fine_switch\n"
	/* Reads its own second instruction. */
	"FUNCTION r_reads\n"
	"nop\n1: mov $7,%eax\nmov 1b(%rip),%edx\nret\n"
	"END r_reads\n"
	"FUNCTION r_fine_reads\n"
	"mov $7,%eax\nnop\n1: mov 1b(%rip),%edx\nret\n"
	"END r_fine_reads\n"
	/* The jump takes padding as well: its distance, which may be any bytes, is no code. */
	"FUNCTION r_tiny\n"
	"ret\n"
	"END r_tiny\n"
	".globl r_neighbour\n.hidden r_neighbour\n.type r_neighbour,@function\nr_neighbour: mov $5,%eax\nret\n"
	".size r_neighbour,.-r_neighbour\n"
	"FUNCTION r_breakpoint\n"
	"push %rax\nint3\nnop\nnop\nnop\npop %rax\nret\n"
	"END r_breakpoint\n"
	/* A second function begins inside the first one's bytes, by the unwind table alone. */
	"FUNCTION r_two\n"
	"nop\nnop\n.cfi_endproc\n.cfi_startproc\nmov $1,%eax\nret\n"
	"END r_two\n"
	"FUNCTION r_fine_two\n"
	"mov $1,%eax\n.cfi_endproc\n.cfi_startproc\nnop\nret\n"
	"END r_fine_two\n");

extern const char r_whole[], r_part[], r_framed[], r_switch[], r_goto[], r_fine_switch[], r_reads[], r_fine_reads[],
	r_breakpoint[], r_two[], r_fine_two[], r_tiny[], r_neighbour[];

static int failures;
static long entries;

__attribute__((target("general-regs-only"))) static void count(void *context, const uintptr_t *fp)
{
	(void)fp;
	++*(long *)context;
}

/* `size` as a symbol would tell it, 0: not told; `why`: part of the reason, NULL when the function must be taken. */
static void expect(const char *name, const char *code, size_t size, const char *why)
{
	struct mark_function function = {.address = (uintptr_t)code, .size = size};
	const char *reason = NULL;
	patch_entry(&function, count, &entries, &reason);
	if (why ? !reason || !strstr(reason, why) : reason != NULL) {
		printf("%s: %s\n", name, reason ? reason : "accepted");
		failures++;
	}
}

static int call(const char *code, int argument)
{
	return ((int (*)(int))(uintptr_t)code)(argument);
}

static void try_refusals(void)
{
	expect("r_part", r_part, 0, "part of another function");
	expect("r_framed", r_framed, 0, "with a frame");
	expect("r_switch", r_switch, 0, "table");
	expect("r_goto", r_goto, 0, "table");
	expect("r_reads", r_reads, 0, "refers to its own");
	expect("r_breakpoint", r_breakpoint, 0, "breakpoint");
	expect("r_two", r_two, 8, "another symbol");
	expect("r_whole", r_whole, 0, NULL);
	expect("r_fine_switch", r_fine_switch, 0, NULL);
	expect("r_fine_reads", r_fine_reads, 0, NULL);
	expect("r_fine_two", r_fine_two, 7, NULL);
	int results = call(r_whole, -5) + call(r_whole, 200) + call(r_whole, 3) + call(r_fine_switch, 2) +
		      call(r_fine_switch, 3) + call(r_fine_reads, 0) + call(r_fine_two, 0);
	if (results != 5 + 100 + 3 + 1 + 0 + 7 + 1 || entries != 7) {
		printf("results %d, entries %ld\n", results, entries);
		failures++;
	}
}

/* A distance whose first two bytes read as a short jump into the neighbour's. */
static void try_unlucky_distance(void)
{
	volatile uint8_t *code = (volatile uint8_t *)(uintptr_t)r_tiny;
	void *page = (void *)((uintptr_t)code & ~(uintptr_t)4095);
	expect("r_tiny", r_tiny, 1, NULL);
	uint8_t first = code[1], second = code[2];
	if (code[0] != 0xe9 || r_neighbour - r_tiny != 16 || mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		puts("r_tiny is not patched as expected");
		failures++;
		return;
	}
	code[1] = 0xeb;
	code[2] = 15; /* to the neighbour's third byte */
	expect("r_neighbour", r_neighbour, 6, NULL);
	mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC); /* the patcher has taken the right away again */
	code[1] = first;
	code[2] = second;
	entries = 0;
	((void (*)(void))(uintptr_t)r_tiny)();
	if (call(r_neighbour, 0) != 5 || entries != 2) {
		printf("neighbours: %ld entries\n", entries);
		failures++;
	}
}

static size_t nothing_displaced(uintptr_t address)
{
	(void)address;
	return 0;
}

static void nothing_moved(uintptr_t start, uintptr_t end,
			  void (*visit)(void *context, const uint8_t *code, size_t bytes), void *context)
{
	(void)start, (void)end, (void)visit, (void)context;
}

static const struct scan_patches no_patches = {nothing_displaced, nothing_moved};

#define TABLE_BYTES 12 /* of .eh_frame_hdr before its table */
#define FUNCTIONS_MAX 8192
#define STEP 3

static size_t measure_all(const struct image *image, struct displaced *out)
{
	const uint8_t *table = NULL;
	size_t count_out = 0;
	for (size_t i = 0; i < image->phdr_count; i++)
		if (image->phdr[i].p_type == PT_GNU_EH_FRAME)
			table = (const uint8_t *)(image->base + image->phdr[i].p_vaddr);
	const int32_t *entry = (const int32_t *)(table + TABLE_BYTES);
	for (uint32_t left = *(const uint32_t *)(table + 8); left-- && count_out < FUNCTIONS_MAX; entry += 2) {
		uintptr_t address = (uintptr_t)table + (uintptr_t)(intptr_t)*entry, start;
		size_t size;
		if (extent_find(image, address, &start, &size) && start == address &&
		    !displaced_measure(address, size, size, &out[count_out]))
			count_out++;
	}
	return count_out;
}

static void compare_index(const void *inside)
{
	static struct displaced displaced[FUNCTIONS_MAX];
	static bool jumped[FUNCTIONS_MAX], entered[FUNCTIONS_MAX];
	struct image image;
	if (!image_of((uintptr_t)inside, &image))
		return;
	size_t functions = measure_all(&image, displaced), hits = 0, differing = 0;
	for (size_t i = 0; i < functions; i += STEP) {
		scan_release();
		jumped[i] = scan_jumped_into(&image, &displaced[i], &no_patches);
		entered[i] = scan_entry_inside(&image, &displaced[i]);
		hits += jumped[i] || entered[i];
	}
	scan_release();
	for (size_t i = 0; i < functions; i += STEP) {
		bool jumped_now = scan_jumped_into(&image, &displaced[i], &no_patches);
		differing += jumped_now != jumped[i] || scan_entry_inside(&image, &displaced[i]) != entered[i];
	}
	scan_release();
	printf("%s: every %d. of %zu functions, %zu entered inside their first bytes, %zu answers differ\n", image.name,
	       STEP, functions, hits, differing);
	failures += differing != 0 || functions < 500;
}

/* A module whose text is searched in its file, window by window: any bytes but for what is put there. In memory it has none. */
#define TEXT_BYTES (((size_t)5 << 20) + 4211)
/* The function that is entered: the distances that lead there from the text's last bytes have lower halves about 0. */
#define TEXT_FUNCTION (((size_t)18 << 16) + (TEXT_BYTES - 14) % (1 << 16))
#define ASKED_OFTEN 4
#define BESIDE 24 /* bytes to either side of where a window or a piece of one may end */

struct large_text {
	struct image image;
	Elf64_Phdr phdr;
	int fd;
	char path[32];
	struct displaced displaced;
	size_t missed, unindexed, invented;
};

static bool large_text_make(struct large_text *text)
{
	text->fd = memfd_create("large text", MFD_CLOEXEC);
	snprintf(text->path, sizeof text->path, "/proc/self/fd/%d", text->fd);
	uint8_t *code = mmap(NULL, TEXT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (text->fd < 0 || code == MAP_FAILED)
		return false;
	uint64_t random = 88172645463325252u;
	for (size_t i = 0; i < TEXT_BYTES; i++) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		code[i] = (uint8_t)(random >> 32);
	}
	bool written = write(text->fd, code, TEXT_BYTES) == (ssize_t)TEXT_BYTES;
	memset(code + 4096, 0, TEXT_BYTES - 4096); /* the first page tells whose file it is */
	uintptr_t base = (uintptr_t)code;
	text->phdr =
		(Elf64_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = TEXT_BYTES, .p_memsz = TEXT_BYTES};
	text->image = (struct image){.base = base,
				     .start = base,
				     .end = base + TEXT_BYTES,
				     .name = text->path,
				     .phdr = &text->phdr,
				     .phdr_count = 1};
	text->displaced = (struct displaced){.start = base + TEXT_FUNCTION, .bytes = 6};
	return written;
}

static bool large_text_is_entered(struct large_text *text)
{
	scan_release();
	return scan_jumped_into(&text->image, &text->displaced, &no_patches);
}

/* By the index of all branches, which it gets when it is asked about often. */
static bool large_text_is_indexed_as_entered(struct large_text *text)
{
	bool entered = false;
	scan_release();
	for (int i = 0; i < ASKED_OFTEN; i++)
		entered = scan_jumped_into(&text->image, &text->displaced, &no_patches);
	return entered;
}

/* A branch of `bytes` at `at` into the displaced bytes, and the same distance behind what is no branch. */
static void try_branch_at(struct large_text *text, size_t at, uint8_t *code, size_t bytes)
{
	uint8_t before[6];
	int32_t distance = (int32_t)(TEXT_FUNCTION + 1 + at % 5 - at - bytes);
	if (at + bytes > TEXT_BYTES)
		return;
	memcpy(code + bytes - sizeof distance, &distance, sizeof distance);
	bool done = pread(text->fd, before, bytes, (off_t)at) == (ssize_t)bytes &&
		    pwrite(text->fd, code, bytes, (off_t)at) == (ssize_t)bytes;
	text->missed += !done || !large_text_is_entered(text);
	text->unindexed += !large_text_is_indexed_as_entered(text);
	memset(code, 0x05, bytes - sizeof distance); /* add to eax */
	done = pwrite(text->fd, code, bytes, (off_t)at) == (ssize_t)bytes;
	text->invented += !done || large_text_is_entered(text);
	text->missed += pwrite(text->fd, before, bytes, (off_t)at) != (ssize_t)bytes;
}

static void try_branches_at(struct large_text *text, size_t at)
{
	uint8_t jump[5] = {0xe9}, jump_if_zero[6] = {0x0f, 0x84};
	try_branch_at(text, at, jump, sizeof jump);
	try_branch_at(text, at, jump_if_zero, sizeof jump_if_zero);
}

/* Where what was read at once may end, whatever power of two that is; the ends of the text; beside the function. */
static void try_large_text(void)
{
	struct large_text text = {.missed = 0};
	if (!large_text_make(&text)) {
		puts("no room for a large text");
		failures++;
		return;
	}
	text.invented = large_text_is_entered(&text);
	static const size_t ends[] = {8192, 32 << 10, 64 << 10, 96 << 10, 2 << 20, 4 << 20, TEXT_BYTES};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		for (size_t at = ends[i] - BESIDE; at < ends[i] + BESIDE; at++)
			try_branches_at(&text, at);
	for (size_t i = 4; i < 32; i++)
		try_branches_at(&text, TEXT_FUNCTION + (i % 2 ? i << (i / 2) : 0 - (i << (i / 2))));
	printf("large text: %zu branches missed, %zu by the index, %zu invented\n", text.missed, text.unindexed,
	       text.invented);
	failures += text.missed || text.unindexed || text.invented;
	close(text.fd);
}

int main(void)
{
	if (patch_init()) {
		puts("Zydis is missing");
		return 1;
	}
	compare_index(dlsym(RTLD_DEFAULT, "qsort"));
	compare_index(dlsym(dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL), "lgamma"));
	try_refusals();
	try_unlucky_distance();
	try_large_text();
	return failures != 0;
}
