/*
 * Unit tests of the finder of Tokio's task tables, on modules made up here: a page of constants, a page of code, a page
 * that is read-only after relocation. What is a table, what only looks like one, before and after relocation, and what
 * tells that Tokio is there.
 * Sources: core/mark/tokio.c core/mark/image.c core/mark/extent.c core/base.c core/library.c
 */
#include <stdio.h>
#include <string.h>

#include "core/mark/tokio.h"
#include "tests/c/check.h"

#define PART 4096u
#define WORDS (PART / sizeof(uintptr_t))

/* In the order of the addresses. The last word of the sealed part is the last that may be read. */
struct module {
	char constants[PART];
	uint8_t code[PART];
	uintptr_t sealed[WORDS];
	Elf64_Rela relocation[WORDS];
	Elf64_Dyn dynamic[3];
};

static _Alignas(4096) struct module modules[2];
static Elf64_Phdr headers[2][5];
static struct image images[2];

static uintptr_t in_code(struct module *module, size_t offset)
{
	return (uintptr_t)module->code + offset;
}

static void module_begin(size_t which)
{
	struct module *module = &modules[which];
	memset(module, 0, sizeof *module);
	Elf64_Phdr made[5] = {
		{.p_type = PT_LOAD,
		 .p_flags = PF_R,
		 .p_vaddr = offsetof(struct module, constants),
		 .p_filesz = PART,
		 .p_memsz = PART},
		{.p_type = PT_LOAD,
		 .p_flags = PF_R | PF_X,
		 .p_vaddr = offsetof(struct module, code),
		 .p_filesz = PART,
		 .p_memsz = PART},
		{.p_type = PT_LOAD,
		 .p_flags = PF_R | PF_W,
		 .p_vaddr = offsetof(struct module, sealed),
		 .p_memsz = PART},
		{.p_type = PT_GNU_RELRO, .p_flags = PF_R, .p_vaddr = offsetof(struct module, sealed), .p_memsz = PART},
		{.p_type = PT_DYNAMIC, .p_vaddr = offsetof(struct module, dynamic)},
	};
	memcpy(headers[which], made, sizeof made);
	images[which] = (struct image){.base = (uintptr_t)module,
				       .start = (uintptr_t)module,
				       .end = (uintptr_t)(module + 1),
				       .name = "/made/up",
				       .phdr = headers[which],
				       .phdr_count = 5};
	module->dynamic[0] = (Elf64_Dyn){.d_tag = DT_NULL};
}

/* A table at word `at` whose functions begin at `code`, 16 bytes apart. */
static void put_table(size_t which, size_t at, size_t code)
{
	static const uintptr_t offsets[] = {0x48, 0x20, 0x28};
	for (size_t i = 0; i < 7; i++)
		modules[which].sealed[at + i] = in_code(&modules[which], code + i * 16);
	memcpy(&modules[which].sealed[at + 7], offsets, sizeof offsets);
}

static struct tokio_table found[8];
static size_t found_most = 8;

static bool keep(void *context, const struct tokio_table *table)
{
	uint32_t *count = context;
	if (*count < 8)
		found[*count] = *table;
	return ++*count < found_most;
}

static uint32_t tables(size_t which)
{
	uint32_t count = 0;
	CHECK(tokio_tables(&images[which], keep, &count) == count);
	return count;
}

static void test_tables(void)
{
	module_begin(0);
	CHECK(tables(0) == 0);
	put_table(0, 5, 0x100);
	put_table(0, 15, 0x200);
	put_table(0, WORDS - 10, 0x300);
	CHECK(tables(0) == 3);
	CHECK(found[0].poll == in_code(&modules[0], 0x100) && found[0].schedule == in_code(&modules[0], 0x110) &&
	      found[0].dealloc == in_code(&modules[0], 0x120) && found[0].slot == (uintptr_t)&modules[0].sealed[5]);
	CHECK(found[2].poll == in_code(&modules[0], 0x300) &&
	      found[2].slot == (uintptr_t)&modules[0].sealed[WORDS - 10]);
	found_most = 1;
	CHECK(tables(0) == 1);
	found_most = 8;

	/* Four offsets; a function of another constant just before. */
	module_begin(0);
	put_table(0, 5, 0x100);
	modules[0].sealed[15] = 0x38;
	modules[0].sealed[4] = in_code(&modules[0], 0x80);
	CHECK(tables(0) == 1 && found[0].poll == in_code(&modules[0], 0x100));

	/* The segment ends inside the table, or nothing is sealed. */
	headers[0][3].p_memsz = 14 * sizeof(uintptr_t);
	CHECK(tables(0) == 0);
	headers[0][3].p_memsz = 15 * sizeof(uintptr_t);
	CHECK(tables(0) == 1);
	headers[0][2].p_memsz = 14 * sizeof(uintptr_t); /* sealed beyond what is mapped */
	CHECK(tables(0) == 0);
	headers[0][3].p_type = PT_NULL;
	CHECK(tables(0) == 0);
}

static void test_no_table(void)
{
	static const struct {
		size_t word;
		uintptr_t value;
	} wrong[] = {
		{5, 0},           {11, 0},         {8, 4},          {12, 0},     {12, 0x30},
		{12, 0x4c},       {12, 32u << 20}, {13, 0},         {13, 0x18},  {13, 0x24},
		{13, 0x1000},     {14, 0},         {14, 0x18},      {14, 0x2c},  {14, 0x200},
		{12, UINT64_MAX}, {7, 0x1234},     {6, UINT64_MAX}, {13, 0x108}, {14, UINT64_MAX},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		module_begin(0);
		put_table(0, 5, 0x100);
		CHECK(tables(0) == 1);
		modules[0].sealed[wrong[i].word] = wrong[i].value;
		CHECK(tables(0) == 0);
	}
	/* Outside the code, into data, one function for two that differ. */
	module_begin(0);
	put_table(0, 5, 0x100);
	modules[0].sealed[9] = in_code(&modules[0], PART);
	CHECK(tables(0) == 0);
	modules[0].sealed[9] = (uintptr_t)modules[0].constants;
	CHECK(tables(0) == 0);
	static const size_t twins[][2] = {{5, 6}, {5, 7}, {5, 11}, {6, 7}, {6, 11}, {7, 11}};
	for (size_t i = 0; i < sizeof twins / sizeof *twins; i++) {
		put_table(0, 5, 0x100);
		modules[0].sealed[twins[i][0]] = modules[0].sealed[twins[i][1]];
		CHECK(tables(0) == 0);
	}
}

static void relocation_add(size_t at, size_t word, uintptr_t addend)
{
	modules[0].relocation[at] = (Elf64_Rela){.r_offset = offsetof(struct module, sealed) + word * sizeof(uintptr_t),
						 .r_info = ELF64_R_INFO(0, R_X86_64_RELATIVE),
						 .r_addend = (Elf64_Sxword)addend};
}

static void test_before_relocation(void)
{
	module_begin(0);
	put_table(0, 5, 0x100);
	modules[0].dynamic[0] = (Elf64_Dyn){.d_tag = DT_RELA, .d_un.d_ptr = offsetof(struct module, relocation)};
	modules[0].dynamic[1] = (Elf64_Dyn){.d_tag = DT_RELASZ, .d_un.d_val = 8 * sizeof(Elf64_Rela)};
	modules[0].dynamic[2] = (Elf64_Dyn){.d_tag = DT_NULL};
	relocation_add(0, 2, offsetof(struct module, constants));
	for (size_t i = 0; i < 7; i++) {
		relocation_add(1 + i, 5 + i, modules[0].sealed[5 + i] - (uintptr_t)&modules[0]);
		modules[0].sealed[5 + i] = 0;
	}
	CHECK(tables(0) == 1 && found[0].poll == in_code(&modules[0], 0x100));
	modules[0].relocation[7].r_info = ELF64_R_INFO(1, R_X86_64_64);
	CHECK(tables(0) == 0);
	modules[0].dynamic[1].d_un.d_val = UINT64_MAX; /* a table longer than its module */
	CHECK(tables(0) == 0);
	modules[0].dynamic[1].d_un.d_val = sizeof(Elf64_Rela); /* of a place outside it */
	modules[0].relocation[0].r_offset = UINT64_MAX - 8;
	CHECK(tables(0) == 0);
	modules[0].relocation[0].r_offset = sizeof(struct module) - 7;
	CHECK(tables(0) == 0);
}

static bool seen_by(const char *text, char version[TOKIO_VERSION_BYTES])
{
	module_begin(0);
	memcpy(modules[0].constants + PART - strlen(text), text, strlen(text)); /* up to the last byte */
	return tokio_seen(&images[0], version);
}

static void test_seen(void)
{
	char version[TOKIO_VERSION_BYTES];
	CHECK(!seen_by("", version) && !version[0]);
	CHECK(seen_by("/registry/tokio-1.24.2/src/runtime/task/core.rs", version) && !strcmp(version, "1.24.2"));
	CHECK(seen_by("tokio-0.2.25/src/runtime/", version) && !strcmp(version, "0.2.25"));
	CHECK(seen_by("/vendor/tokio/src/runtime/", version) && !version[0]);
	CHECK(seen_by("tokio-runtime-worker", version) && !version[0]);
	CHECK(seen_by("tokio/src/runtime tokio-runtime-worker tokio-1.9.0/src/runtime/", version) &&
	      !strcmp(version, "1.9.0"));
	CHECK(seen_by("A Tokio 1.x context was found", version) && !version[0]);
	static const char *const no[] = {"tokio",
					 "tokio-",
					 "tokio-1.24.2",
					 "tokio-1.24.2/src/sync/mpsc/chan.rs",
					 "tokio-util-0.7.4/src/runtime/",
					 "tokio-1.24.2-rc1/src/runtime/",
					 "tokio-/src/runtime/",
					 "tokio-123456789.123456789/src/runtime/",
					 "mytokio/src/runtime/",
					 "/tokio/src/runtime"};
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		CHECK(!seen_by(no[i], version));

	/* In one segment with the code; never in data. */
	CHECK(seen_by("tokio-1.24.2/src/runtime/", version));
	headers[0][0].p_flags = PF_R | PF_X;
	CHECK(tokio_seen(&images[0], version));
	headers[0][0].p_flags = PF_R | PF_W;
	CHECK(!tokio_seen(&images[0], version));
}

static bool (*is_there)(size_t which);

void finder_modules(bool (*visit)(void *context, const struct image *image, const char *path), void *context)
{
	for (size_t which = 0; which < 2; which++)
		if (is_there(which) && !visit(context, &images[which], which ? "/made/second" : "/made/first"))
			return;
}

static bool first_only(size_t which)
{
	return which == 0;
}

static bool both(size_t which)
{
	(void)which;
	return true;
}

static struct mark_function functions[8];
static uint32_t function_count, function_most = 8;

static bool keep_function(void *context, const struct mark_function *function)
{
	(void)context;
	if (function_count < 8)
		functions[function_count] = *function;
	return ++function_count < function_most;
}

static int each(const char **reason)
{
	function_count = 0;
	return tokio_each(keep_function, NULL, reason);
}

static void test_each(void)
{
	static const char name[] = "tokio-1.24.2/src/runtime/";
	const char *reason;
	module_begin(0);
	put_table(0, 5, 0x100);
	is_there = first_only;
	CHECK(each(&reason) == 0 && !reason); /* the shape alone is not believed */
	memcpy(modules[0].constants, name, sizeof name);
	CHECK(each(&reason) == 1 && !reason && functions[0].address == in_code(&modules[0], 0x100) &&
	      functions[0].module_base == images[0].base && !strcmp(functions[0].module_path, "/made/first"));

	/* A linker may have made one function of the polls of two types. */
	put_table(0, 20, 0x100);
	put_table(0, 40, 0x200);
	put_table(0, 60, 0x200);
	CHECK(tables(0) == 4 && each(&reason) == 2 && functions[1].address == in_code(&modules[0], 0x200));
	function_most = 1;
	CHECK(each(&reason) == 1 && function_count == 1);
	function_most = 8;

	/* A second module whose tables are not known. */
	module_begin(1);
	is_there = both;
	CHECK(each(&reason) == 2 && !reason);
	memcpy(modules[1].constants, "tokio-1.9.0/src/runtime/", 24);
	CHECK(each(&reason) == 2 && reason && strstr(reason, "Tokio 1.9.0 in second: unknown layout"));
	memcpy(modules[1].constants, "/tokio/src/runtime/task.", 24);
	CHECK(each(&reason) == 2 && reason && strstr(reason, "in second: unknown layout") && !strstr(reason, "1.9.0"));
}

int main(void)
{
	test_tables();
	test_no_table();
	test_before_relocation();
	test_seen();
	test_each();
	if (failures)
		printf("%d failed\n", failures);
	return failures != 0;
}
