/* odd_frames KIND [LIBRARY]: frames as compilers seldom make them. "numbers", "data", "calls", "hole", "low": code without
   unwind tables points with rbp at two words. Where a frame has its return address is a number, an address of data, one
   of data behind what would be calls, one in the hole between the library's segments, where nothing can be read (ends
   with 77 where there is none), or just behind the first page of all. "signal": an ordinary function that is said to be a
   signal's frame. */
#include "common.h"

#include <dlfcn.h>
#include <link.h>

enum { PAGE = 4096, ROUNDS = 1000, NO_HOLE = 77 };

void pointing(const uintptr_t *words, void (*call)(void));
void said_to_be_a_signals(void (*call)(void));

__asm__(".text\n"
	".type pointing, @function\n"
	"pointing:\n"
	"	push %rbp\n"
	"	mov %rdi, %rbp\n"
	"	call *%rsi\n"
	"	pop %rbp\n"
	"	ret\n"
	".size pointing, .-pointing\n"
	".type said_to_be_a_signals, @function\n"
	"said_to_be_a_signals:\n"
	"	.cfi_startproc\n"
	"	.cfi_signal_frame\n"
	"	sub $0x28, %rsp\n"
	"	.cfi_def_cfa_offset 0x30\n"
	"	call *%rdi\n"
	"	add $0x28, %rsp\n"
	"	.cfi_def_cfa_offset 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size said_to_be_a_signals, .-said_to_be_a_signals\n");

SITE void work(void)
{
	free(malloc(40));
}

SITE void point(uintptr_t first, uintptr_t step)
{
	volatile uintptr_t words[2] = {0};
	for (volatile int i = 0; i < ROUNDS; i++) {
		words[1] = first + (uintptr_t)i * step;
		pointing((const uintptr_t *)words, work);
	}
}

SITE void signals(void)
{
	for (volatile int i = 0; i < ROUNDS; i++)
		said_to_be_a_signals(work);
}

/* The middle of the first gap between two segments. */
static uintptr_t hole_of(const char *name)
{
	void *library = dlopen(name, RTLD_NOW);
	CHECK(library != NULL);
	uintptr_t base = library ? ((struct link_map *)library)->l_addr : (exit(1), 0), end = 0;
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)base;
	const ElfW(Phdr) *part = (const ElfW(Phdr) *)(base + header->e_phoff);
	for (int i = 0; i < header->e_phnum; i++) {
		if (part[i].p_type != PT_LOAD)
			continue;
		if (end && part[i].p_vaddr > end + 4 * PAGE)
			return base + (end + part[i].p_vaddr) / 2 / PAGE * PAGE;
		end = part[i].p_vaddr + part[i].p_memsz;
	}
	exit(NO_HOLE);
}

int main(int argc, char **argv)
{
	static char data[ROUNDS * 16];
	enum { CALL = 0xe8 };
	if (argc > 2)
		point(hole_of(argv[2]), 0);
	else if (!strcmp(argv[1], "numbers"))
		point(1 << 20, PAGE);
	else if (!strcmp(argv[1], "low"))
		point(PAGE - 8, 1);
	else if (!strcmp(argv[1], "data"))
		point((uintptr_t)data, 16);
	else if (!strcmp(argv[1], "calls"))
		point((uintptr_t)memset(data, CALL, sizeof data) + 16, 1);
	else
		signals();
	return failures;
}
