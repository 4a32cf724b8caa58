/* closed_library KIND LIBRARY [LARGE]: code where a library was that called back what allocates. "same": generated
   code lies over all of it, and what it calls returns to the same address. "other": to another address. "page": it
   lies where the library's code was, and nothing where its unwind tables were. "again": the library's own code is
   copied there, then the library comes back. Ends with 77 where that place cannot be had. */
#include "common.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

enum { PAGE = 4096, TAKEN = 77 };

typedef int (*enter_fn)(void (*call)(void));

static uintptr_t returned_to;

SITE void work(void)
{
	returned_to = (uintptr_t)__builtin_return_address(0);
	free(malloc(40));
}

SITE void run(enter_fn enter, int times)
{
	for (volatile int i = 0; i < times; i++)
		enter(work);
}

static void *open_library(const char *name)
{
	void *library = dlopen(name, RTLD_NOW);
	CHECK(library != NULL);
	return library ? library : (exit(1), NULL);
}

static enter_fn enter_of(void *library)
{
	return (enter_fn)dlsym(library, "enter");
}

static uintptr_t page_of(uintptr_t address)
{
	return address & ~(uintptr_t)(PAGE - 1);
}

static size_t span_of(uintptr_t base)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)base;
	const ElfW(Phdr) *part = (const ElfW(Phdr) *)(base + header->e_phoff);
	size_t end = 0;
	for (int i = 0; i < header->e_phnum; i++)
		if (part[i].p_type == PT_LOAD)
			end = part[i].p_vaddr + part[i].p_memsz;
	return page_of(end + PAGE - 1);
}

static void take(uintptr_t place, size_t bytes)
{
	void *at = (void *)place;
	int rights = PROT_READ | PROT_WRITE | PROT_EXEC;
	if (mmap(at, bytes, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
		exit(TAKEN);
}

static void generate(const char *kind, const char *name)
{
	/* push %rbp; mov %rsp, %rbp; sub $48, %rsp; call *%rdi; leave; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x30, 0xff, 0xd7, 0xc9, 0xc3};
	enum { AFTER_CALL = 10, ELSEWHERE = 512 };
	void *library = open_library(name);
	uintptr_t base = ((struct link_map *)library)->l_addr;
	size_t span = span_of(base);
	run(enter_of(library), 4);
	CHECK(!dlclose(library));
	if (!strcmp(kind, "page"))
		take(page_of(returned_to), PAGE);
	else
		take(base, span);
	uintptr_t place = strcmp(kind, "same") ? page_of(returned_to) + ELSEWHERE : returned_to - AFTER_CALL;
	memcpy((void *)place, code, sizeof code);
	run((enter_fn)place, 4);
}

/* The third time by the very calls of the first. */
static void come_back(const char *name, const char *large)
{
	static const int times[] = {4, 7, 100};
	static char copy[PAGE];
	enter_fn enter = NULL;
	for (volatile int round = 0; round < 3; round++) {
		bool by_hand = round == 1;
		void *library = open_library(by_hand ? large : name); /* the large one has no room there */
		void *page = (void *)page_of((uintptr_t)enter);
		if (by_hand) {
			CHECK(!dlclose(library));
			take((uintptr_t)page, PAGE);
			memcpy(page, copy, PAGE);
		} else {
			enter_fn before = enter;
			enter = enter_of(library);
			if (before && enter != before)
				exit(TAKEN);
			memcpy(copy, (void *)page_of((uintptr_t)enter), PAGE);
		}
		run(enter, times[round]);
		CHECK(by_hand ? !munmap(page, PAGE) : !dlclose(library));
	}
}

int main(int argc, char **argv)
{
	if (argc > 3)
		come_back(argv[2], argv[3]);
	else
		generate(argv[1], argv[2]);
	return failures;
}
