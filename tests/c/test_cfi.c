/* Rows of call frame information against libdw's reading of the same sections: of each function of each library that is
   loaded here, each stretch of its instructions.
   Sources: core/path/module.c core/path/cfi.c core/path/eh_frame.c core/base.c; libs: -ldl -ldw -lelf -pthread */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/path/cfi.h"
#include "core/path/module.h"

enum { REG_RBP = 6, REG_RSP = 7, REG_RA = 16, SLOT = 8 };

static size_t rows, hard, failures;

static bool is_offset(const Dwarf_Op *ops, size_t count, int64_t *offset)
{
	*offset = count == 2 ? (int64_t)ops[1].number : 0;
	return count && ops[0].atom == DW_OP_call_frame_cfa &&
	       (count == 1 || (count == 2 && ops[1].atom == DW_OP_plus_uconst));
}

/* What the row should be. False: it is nothing that a row can express. */
static bool expected_row(Dwarf_Frame *frame, struct cfi_row *row)
{
	Dwarf_Op own[3], *ops;
	size_t count;
	int64_t offset;
	*row = (struct cfi_row){.kind = CFI_HARD};
	if (dwarf_frame_register(frame, REG_RA, own, &ops, &count) < 0)
		return false;
	if (ops && !count) { /* undefined; the same value would be without `ops` */
		row->kind = CFI_END;
		return true;
	}
	if (!is_offset(ops, count, &offset) || offset != -SLOT)
		return false;
	if (dwarf_frame_register(frame, REG_RBP, own, &ops, &count) < 0 || (ops && !count))
		return false;
	bool simple = true;
	if (!count) {
		row->saved = CFI_KEPT;
	} else if (is_offset(ops, count, &offset)) {
		row->saved = CFI_AT_CFA;
		row->fp_slot = (int16_t)(offset / SLOT);
	} else if (ops[count - 1].atom == DW_OP_breg6) { /* of an expression; libdw may have pushed the CFA before */
		row->saved = CFI_AT_FP;
		row->fp_slot = (int16_t)((int64_t)ops[count - 1].number / SLOT);
	} else {
		simple = false;
	}
	if (!simple || dwarf_frame_cfa(frame, &ops, &count) < 0 || !count)
		return false;
	if (count == 1 && ops[0].atom == DW_OP_bregx) {
		row->kind = ops[0].number == REG_RSP ? CFI_SP : ops[0].number == REG_RBP ? CFI_FP : CFI_HARD;
		row->cfa = (int32_t)ops[0].number2;
	} else if (count == 2 && ops[0].atom == DW_OP_breg6 && ops[1].atom == DW_OP_deref) {
		row->kind = CFI_FP_LOADED;
		row->cfa = (int32_t)ops[0].number;
	}
	return row->kind != CFI_HARD;
}

/* The linker's expression, breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus: what it comes to at `pc`. */
static bool is_plt(Dwarf_Frame *frame, uintptr_t pc, struct cfi_row *row)
{
	Dwarf_Op *ops;
	size_t count;
	if (dwarf_frame_cfa(frame, &ops, &count) || count != 9 || ops[0].atom != DW_OP_breg7 ||
	    ops[1].atom != DW_OP_breg16)
		return false;
	*row = (struct cfi_row){.kind = CFI_SP, .cfa = 8 + ((pc & 15) >= ops[4].atom - (unsigned)DW_OP_lit0 ? 8 : 0)};
	return true;
}

static void check(const struct path_module *module, uintptr_t pc, struct cfi_row row, struct cfi_row expected)
{
	rows++;
	hard += expected.kind == CFI_HARD;
	if (expected.kind == CFI_END || expected.kind == CFI_HARD ? row.kind == expected.kind
								  : !memcmp(&row, &expected, sizeof row))
		return;
	if (failures++ < 10)
		printf("%s+%#zx: kind %d saved %d slot %d cfa %d, expected %d %d %d %d\n", module->path,
		       pc - module->base, row.kind, row.saved, row.fp_slot, row.cfa, expected.kind, expected.saved,
		       expected.fp_slot, expected.cfa);
}

/* The instruction at `pc`, and the call that would return behind it: that row is kept, so that the tables grow. */
static void compare(const struct path_module *module, uintptr_t pc, Dwarf_Frame *frame, bool signal)
{
	struct cfi_row expected;
	if (signal)
		expected = (struct cfi_row){.kind = CFI_SIGNAL};
	else if (!is_plt(frame, pc, &expected) && !expected_row(frame, &expected))
		expected = (struct cfi_row){.kind = CFI_HARD};
	check(module, pc, cfi_row_of(pc, true), expected);
	check(module, pc, cfi_row_of(pc + 1, false), expected);
}

/* A function from its first address on, up to `limit`, where the next one begins: the first and the last address of each
   stretch, in a .plt every one. */
static void compare_function(const struct path_module *module, Dwarf_CFI *cfi, Dwarf_Addr at, Dwarf_Addr limit)
{
	Dwarf_Frame *frame;
	Dwarf_Addr start, end;
	struct cfi_row unused;
	bool signal;
	for (; at < limit && !dwarf_cfi_addrframe(cfi, at, &frame); at = end) {
		if (dwarf_frame_info(frame, &start, &end, &signal) < 0 || end > limit)
			end = limit;
		Dwarf_Addr step = is_plt(frame, at, &unused) || end - at < 2 ? 1 : end - at - 1;
		for (Dwarf_Addr pc = at; pc < end; pc += step)
			compare(module, module->base + pc, frame, signal);
		free(frame);
	}
}

static void compare_module(uint32_t index)
{
	const struct path_module *module = path_module_at(index);
	const struct module_unwind *unwind = module_unwind_at(index);
	int fd = open(module->path, O_RDONLY);
	Elf *elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
	Dwarf_CFI *cfi = elf ? dwarf_getcfi_elf(elf) : NULL;
	for (size_t i = 0; cfi && i < unwind->entries; i++) {
		Dwarf_Addr base = (uintptr_t)unwind->header - module->base;
		Dwarf_Addr start = base + (Dwarf_Addr)unwind->table[2 * i];
		bool last = i + 1 == unwind->entries;
		compare_function(module, cfi, start, last ? UINT64_MAX : base + (Dwarf_Addr)unwind->table[2 * i + 2]);
	}
	if (cfi)
		dwarf_cfi_end(cfi);
	if (elf)
		elf_end(elf);
	if (fd >= 0)
		close(fd);
}

/* How many are still there in any table, of those that were kept. */
static uint32_t forget_all(void)
{
	uint32_t kept = 0;
	cfi_forget(0, UINTPTR_MAX);
	for (uint32_t at = 0; at < 2 * CFI_ROWS_LAST; at++)
		kept += cfi_rows[at].row != 0;
	return kept;
}

static _Atomic size_t noted;
static _Atomic bool noted_enough;

static void *note_on(void *pc)
{
	while (!noted_enough) {
		cfi_note_after_call((uintptr_t)pc);
		noted++;
	}
	return NULL;
}

/* How often within a second a row that was forgotten came back, because another thread noted something of it. */
static uint32_t come_back(void)
{
	uintptr_t pc = (uintptr_t)come_back + 1;
	struct cfi_row row;
	pthread_t thread;
	uint32_t back = 0;
	if (pthread_create(&thread, NULL, note_on, (void *)pc))
		return 1;
	for (uint64_t end = base_now_ns() + 1000000000; base_now_ns() < end;) {
		cfi_row_of(pc, false);
		cfi_forget(pc - 1, pc);
		for (size_t turns = noted + 2; noted < turns;)
			sched_yield();
		back += cfi_row_known(pc, &row);
	}
	noted_enough = true;
	pthread_join(thread, NULL);
	cfi_row_of(pc, false);
	cfi_note_after_call(pc);
	bool is_noted = cfi_is_after_call(pc);
	cfi_forget(pc - 1, pc);
	return back + !is_noted;
}

int main(int argc, char **argv)
{
	static const char *const usual[] = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libunwind.so.8",
					    "libzstd.so.1"};
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		dlopen(usual[i], RTLD_LAZY);
	for (int i = 1; i < argc; i++)
		if (!dlopen(argv[i], RTLD_LAZY))
			printf("%s\n", dlerror());
	elf_version(EV_CURRENT);
	if (cfi_init() || module_init())
		return 1;
	uint32_t back = come_back(); /* while the tables are small */
	for (int round = 0; round < 2; round++) { /* what was kept in a smaller table is found again */
		for (uint32_t i = 0; i < path_modules_count(); i++) {
			size_t before = rows, failed = failures;
			compare_module(i);
			printf("%s: %zu rows, %zu wrong\n", path_module_at(i)->path, rows - before, failures - failed);
		}
	}
	uint32_t kept = forget_all();
	printf("%zu rows, %zu of them not to be expressed, %zu wrong, %u not forgotten, %u come back\n", rows, hard,
	       failures, kept, back);
	return failures || kept || back || rows < 10000 || cfi_rows_in_use != CFI_ROWS_LAST;
}
