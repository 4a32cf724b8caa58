/*
 * Runs a function's unwind instructions up to the wanted address and keeps the resulting rows. Called by the walk at
 * misses. What a row cannot express becomes CFI_HARD, never a guess. Format: DWARF 5 section 6.4.
 */
#include "core/path/cfi.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/path/eh_frame.h"
#include "core/path/module.h"

#define REMEMBERED_MAX 16

enum { REG_RBP = 6, REG_RSP = 7, REG_RA = 16 };

struct cfi_place *cfi_rows;
_Atomic uint32_t cfi_rows_in_use = CFI_ROWS_FIRST;
static _Atomic uint32_t rows_used; /* of the table in use */

struct rules {
	uint8_t cfa_kind; /* CFI_SP, CFI_FP, CFI_FP_LOADED, CFI_HARD */
	int64_t cfa;
	uint8_t saved;
	int64_t fp_offset;
	bool fp_hard, ra_undefined, ra_hard;
	bool ra_at_fp; /* `ra_offset` is from rbp, not from the CFA */
	int64_t ra_offset;
	uintptr_t pc; /* that the row is for */
};

static uint8_t cfa_kind_of(uint64_t reg)
{
	return reg == REG_RSP ? CFI_SP : reg == REG_RBP ? CFI_FP : CFI_HARD;
}

/* A register's new rule: saved at CFA + offset. */
static void rule_offset(struct rules *rules, uint64_t reg, int64_t offset)
{
	if (reg == REG_RBP) {
		rules->saved = CFI_AT_CFA;
		rules->fp_offset = offset;
		rules->fp_hard = false;
	} else if (reg == REG_RA) {
		rules->ra_offset = offset;
		rules->ra_hard = rules->ra_undefined = rules->ra_at_fp = false;
	} else if (reg == REG_RSP) {
		rules->cfa_kind = CFI_HARD;
	}
}

static void rule_hard(struct rules *rules, uint64_t reg)
{
	if (reg == REG_RBP)
		rules->fp_hard = true;
	else if (reg == REG_RA)
		rules->ra_hard = true;
	else if (reg == REG_RSP)
		rules->cfa_kind = CFI_HARD;
}

static void rule_same(struct rules *rules, uint64_t reg)
{
	if (reg == REG_RBP) {
		rules->saved = CFI_KEPT;
		rules->fp_hard = false;
	} else {
		rule_hard(rules, reg);
	}
}

static void rule_restore(struct rules *rules, const struct rules *initial, uint64_t reg)
{
	if (reg == REG_RBP) {
		rules->saved = initial->saved;
		rules->fp_offset = initial->fp_offset;
		rules->fp_hard = initial->fp_hard;
	} else if (reg == REG_RA) {
		rules->ra_offset = initial->ra_offset;
		rules->ra_undefined = initial->ra_undefined;
		rules->ra_hard = initial->ra_hard;
		rules->ra_at_fp = initial->ra_at_fp;
	}
}

/* The linker's for .plt, where only an interrupted instruction lies: CFA = rsp + 8 + ((rip & 15) >= n ? 8 : 0). */
static bool rule_plt(struct rules *rules, const struct bytes *code)
{
	static const uint8_t head[] = {0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a}, tail[] = {0x2a, 0x33, 0x24, 0x22};
	const uint8_t *at = code->at;
	if (code->end - at != 11 || memcmp(at, head, sizeof head) || memcmp(at + 7, tail, sizeof tail) ||
	    at[6] < 0x30 || at[6] > 0x3f)
		return false;
	rules->cfa_kind = CFI_SP;
	rules->cfa = 8 + ((rules->pc & 15) >= (uintptr_t)(at[6] - 0x30) ? 8 : 0);
	return true;
}

/* The two expressions that GCC writes for realigned stacks: CFA = *(rbp + n), rbp saved at rbp + n. And the first with the
   return address at rbp + n: by hand, where code on another stack has called (Wine's, for what Windows code asks of the
   system). Returns what comes after them. */
static struct bytes rule_expression(struct rules *rules, struct bytes in, bool cfa, uint64_t reg)
{
	uint64_t length = bytes_take_uleb(&in);
	struct bytes code = {.at = in.at, .end = in.at + length, .bad = in.bad};
	bytes_skip(&in, length);
	if (in.bad || (cfa && rule_plt(rules, &code)))
		return in;
	uint64_t first = bytes_take(&code, 1);
	int64_t offset = bytes_take_sleb(&code);
	bool more = code.at < code.end, loaded = more && bytes_take(&code, 1) == 0x06; /* DW_OP_deref */
	bool simple = first == 0x76 && more == loaded && code.at == code.end && !code.bad; /* DW_OP_breg6 */
	if (cfa) {
		rules->cfa_kind = simple && loaded ? CFI_FP_LOADED : CFI_HARD;
		rules->cfa = offset;
	} else if (reg == REG_RBP && simple && !loaded) {
		rules->saved = CFI_AT_FP;
		rules->fp_offset = offset;
		rules->fp_hard = false;
	} else if (reg == REG_RA && simple && !loaded) {
		rule_offset(rules, reg, offset);
		rules->ra_at_fp = true;
	} else if (reg == REG_RSP && simple && !loaded && rules->cfa_kind == CFI_FP_LOADED && rules->cfa == offset) {
		/* the CFA, as ever */
	} else {
		rule_hard(rules, reg);
	}
	return in;
}

/* The most of all instructions, where registers are pushed and popped: advance_loc and def_cfa_offset in turns. Returns what
   comes after them, or the first advance that passes `pc`. */
static always_inline struct bytes run_pushes(struct bytes in, const struct frame_info *info, uintptr_t *location,
					     uintptr_t pc, struct rules *rules)
{
	for (; in.end - in.at >= 3 && in.at[0] >> 6 == 1 && in.at[1] == 0x0e && in.at[2] < 0x80; in.at += 3) {
		uintptr_t next = *location + (in.at[0] & 0x3f) * info->code_align;
		if (next > pc)
			break;
		*location = next;
		rules->cfa = in.at[2];
	}
	return in;
}

/* Runs `in` until the location passes `pc`. False: malformed, or an instruction that we do not know. */
static bool run(struct bytes in, const struct frame_info *info, uintptr_t *location, uintptr_t pc, struct rules *rules,
		const struct rules *initial)
{
	struct rules remembered[REMEMBERED_MAX];
	size_t depth = 0;
	for (;;) {
		in = run_pushes(in, info, location, pc, rules);
		if (in.at >= in.end)
			return !in.bad;
		uint8_t op = (uint8_t)bytes_take(&in, 1);
		uint64_t low = op & 0x3f, advance = UINT64_MAX, reg;
		switch (op & 0xc0 ? op & 0xc0 : op) {
		case 0x40: /* advance_loc */
			advance = low;
			break;
		case 0x80: /* offset */
			rule_offset(rules, low, (int64_t)bytes_take_uleb(&in) * info->data_align);
			break;
		case 0xc0: /* restore */
			rule_restore(rules, initial, low);
			break;
		case 0x00: /* nop */
			break;
		case 0x02: /* advance_loc1, 2, 4 */
			advance = bytes_take(&in, 1);
			break;
		case 0x03:
			advance = bytes_take(&in, 2);
			break;
		case 0x04:
			advance = bytes_take(&in, 4);
			break;
		case 0x05: /* offset_extended */
			reg = bytes_take_uleb(&in);
			rule_offset(rules, reg, (int64_t)bytes_take_uleb(&in) * info->data_align);
			break;
		case 0x11: /* offset_extended_sf */
			reg = bytes_take_uleb(&in);
			rule_offset(rules, reg, bytes_take_sleb(&in) * info->data_align);
			break;
		case 0x06: /* restore_extended */
			rule_restore(rules, initial, bytes_take_uleb(&in));
			break;
		case 0x07: /* undefined */
			reg = bytes_take_uleb(&in);
			if (reg == REG_RA)
				rules->ra_undefined = true;
			else if (reg == REG_RBP)
				rules->fp_hard = true;
			break;
		case 0x08: /* same_value */
			rule_same(rules, bytes_take_uleb(&in));
			break;
		case 0x09: /* register */
			rule_hard(rules, bytes_take_uleb(&in));
			bytes_take_uleb(&in);
			break;
		case 0x0a: /* remember_state */
			if (depth == REMEMBERED_MAX)
				return false;
			remembered[depth++] = *rules;
			break;
		case 0x0b: /* restore_state */
			if (!depth)
				return false;
			*rules = remembered[--depth];
			break;
		case 0x0c: /* def_cfa */
			rules->cfa_kind = cfa_kind_of(bytes_take_uleb(&in));
			rules->cfa = (int64_t)bytes_take_uleb(&in);
			break;
		case 0x12: /* def_cfa_sf */
			rules->cfa_kind = cfa_kind_of(bytes_take_uleb(&in));
			rules->cfa = bytes_take_sleb(&in) * info->data_align;
			break;
		case 0x0d: /* def_cfa_register */
			rules->cfa_kind = cfa_kind_of(bytes_take_uleb(&in));
			break;
		case 0x0e: /* def_cfa_offset */
			rules->cfa = (int64_t)bytes_take_uleb(&in);
			break;
		case 0x13: /* def_cfa_offset_sf */
			rules->cfa = bytes_take_sleb(&in) * info->data_align;
			break;
		case 0x0f: /* def_cfa_expression */
			in = rule_expression(rules, in, true, 0);
			break;
		case 0x10: /* expression */
			reg = bytes_take_uleb(&in);
			in = rule_expression(rules, in, false, reg);
			break;
		case 0x14: /* val_offset, val_offset_sf */
		case 0x15:
			rule_hard(rules, bytes_take_uleb(&in));
			bytes_take_uleb(&in);
			break;
		case 0x16: /* val_expression */
			rule_hard(rules, bytes_take_uleb(&in));
			bytes_skip(&in, bytes_take_uleb(&in));
			break;
		case 0x2e: /* GNU_args_size */
			bytes_take_uleb(&in);
			break;
		default:
			return false;
		}
		if (advance != UINT64_MAX) {
			*location += advance * info->code_align;
			if (*location > pc)
				return true;
		}
	}
}

static struct cfi_row row_pack(const struct rules *rules)
{
	struct cfi_row row = {.kind = rules->cfa_kind, .saved = rules->saved};
	if (rules->ra_undefined)
		return (struct cfi_row){.kind = CFI_END};
	if (rules->ra_at_fp && !rules->ra_hard && rules->cfa_kind == CFI_FP_LOADED &&
	    rules->ra_offset == (int32_t)rules->ra_offset)
		return (struct cfi_row){.kind = CFI_LEAVES, .cfa = (int32_t)rules->ra_offset};
	row.cfa = (int32_t)rules->cfa;
	row.fp_slot = (int16_t)(rules->fp_offset / 8);
	if (rules->cfa_kind == CFI_HARD || rules->fp_hard || rules->ra_hard || rules->ra_at_fp ||
	    rules->ra_offset != -8 || row.cfa != rules->cfa || row.fp_slot * 8 != rules->fp_offset)
		return (struct cfi_row){.kind = CFI_HARD};
	return row;
}

/* Cost: two binary searches and the function's instructions, typically 200-500 ns with cold caches. */
static struct cfi_row row_read(uintptr_t pc, uint32_t index)
{
	const struct path_module *module = path_module_at(index);
	const struct module_unwind *unwind = module_unwind_at(index);
	struct frame_info info = {.start = 0};
	if (!unwind->table)
		return (struct cfi_row){.kind = CFI_NONE};
	const uint8_t *fde = eh_frame_find(unwind, pc);
	if (!fde)
		return (struct cfi_row){.kind = CFI_NONE};
	if (!eh_frame_read(fde, module, &info))
		return (struct cfi_row){.kind = CFI_HARD};
	if (pc < info.start || pc >= info.end)
		return (struct cfi_row){.kind = CFI_NONE};
	struct rules rules = {.cfa_kind = CFI_HARD, .saved = CFI_KEPT, .ra_offset = -8, .pc = pc}, initial;
	uintptr_t location = info.start;
	if (!run(info.initial, &info, &location, UINTPTR_MAX, &rules, &rules))
		return (struct cfi_row){.kind = CFI_HARD};
	initial = rules;
	bool known = run(info.program, &info, &location, pc, &rules, &initial);
	struct cfi_row row = known ? row_pack(&rules) : (struct cfi_row){.kind = CFI_HARD};
	if (info.signal && row.kind == CFI_HARD) /* else a function that only says so */
		row.kind = CFI_SIGNAL;
	return row;
}

bool cfi_follows_call(const uint8_t *code)
{
	bool follows = code[-5] == 0xe8; /* call rel32 */
	for (int bytes = 2; bytes <= CFI_CALL_BYTES_MAX; bytes++)
		follows |= code[-bytes] == 0xff && (code[1 - bytes] & 0x38) == 0x10; /* call r/m64 */
	return follows;
}

/* Whether a return address is the start of a function that no call stands before: makecontext and its like put it there,
   and nobody called what returns to it. */
static bool is_put_by_hand(uintptr_t pc, uint32_t index)
{
	const struct path_module *module = path_module_at(index);
	const uint8_t *fde = module_unwind_at(index)->table ? eh_frame_find(module_unwind_at(index), pc) : NULL;
	struct frame_info info;
	if (!fde || !eh_frame_read(fde, module, &info) || info.start != pc || pc - module->start < CFI_CALL_BYTES_MAX)
		return false;
	return !cfi_follows_call((const uint8_t *)pc);
}

/* The table that has room for one more; 0: none has. A thread that still adds to the one before fills the quarter of it that
   is left free. */
static uint32_t rows_with_room(void)
{
	uint32_t rows = atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed);
	if (atomic_load_explicit(&rows_used, memory_order_relaxed) < rows / 4 * 3)
		return rows;
	if (rows == CFI_ROWS_LAST)
		return 0;
	if (atomic_compare_exchange_strong(&cfi_rows_in_use, &rows, rows * 4)) {
		atomic_store(&rows_used, 0);
		base_fill(&cfi_rows[rows * 4], rows * 4 * sizeof *cfi_rows);
	}
	return atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed);
}

static void row_keep(uintptr_t pc, struct cfi_row row)
{
	uint64_t packed;
	memcpy(&packed, &row, sizeof packed);
	uint32_t rows = atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed);
	for (uint32_t at = cfi_place_of(pc, rows);; at = cfi_place_after(at, rows)) {
		uintptr_t known = atomic_load_explicit(&cfi_rows[at].pc, memory_order_relaxed);
		if (!known) {
			if (rows_with_room() != rows)
				return; /* it is kept the next time, unless no table has room */
			if (atomic_compare_exchange_strong(&cfi_rows[at].pc, &known, pc)) {
				atomic_fetch_add(&rows_used, 1);
				known = pc;
			}
		}
		if (known == pc) {
			atomic_store_explicit(&cfi_rows[at].row, packed, memory_order_release);
			return;
		}
	}
}

void cfi_note_after_call(uintptr_t pc)
{
	struct cfi_place *place = cfi_place_in(atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed), pc);
	uint64_t known = place ? atomic_load_explicit(&place->row, memory_order_acquire) : 0, noted;
	struct cfi_row row;
	memcpy(&row, &known, sizeof row);
	row.after_call = 1;
	memcpy(&noted, &row, sizeof noted);
	if (known) /* and not forgotten meanwhile: it must not come back */
		atomic_compare_exchange_strong(&place->row, &known, noted);
}

/* From a smaller table, to which nothing is added any more. */
static bool row_known_before(uintptr_t pc, struct cfi_row *row)
{
	uint32_t rows = atomic_load_explicit(&cfi_rows_in_use, memory_order_relaxed);
	while (rows > CFI_ROWS_FIRST)
		if (cfi_row_in(rows /= 4, pc, row))
			return true;
	return false;
}

struct cfi_row cfi_row_of(uintptr_t pc, bool exact)
{
	struct cfi_row row;
	if (!exact && cfi_row_known(pc, &row))
		return row;
	if (!exact && row_known_before(pc, &row)) {
		row_keep(pc, row);
		return row;
	}
	uintptr_t wanted = exact ? pc : pc - 1;
	path_modules_refresh(); /* what was there may be unmapped */
	uint32_t index = path_module_of(wanted);
	if (index == UINT32_MAX) {
		module_note_foreign(pc);
		return (struct cfi_row){.kind = CFI_NONE};
	}
	row = row_read(wanted, index);
	if (row.kind == CFI_NONE && !exact && is_put_by_hand(pc, index))
		row = (struct cfi_row){.kind = CFI_END};
	if (!exact)
		row_keep(pc, row);
	return row;
}

void cfi_forget(uintptr_t start, uintptr_t end)
{
	/* Of all tables: rows are taken from those before. */
	for (uint32_t at = 0; cfi_rows && at < 2 * atomic_load(&cfi_rows_in_use); at++) {
		uintptr_t pc = atomic_load_explicit(&cfi_rows[at].pc, memory_order_relaxed);
		if (pc > start && pc <= end)
			atomic_store_explicit(&cfi_rows[at].row, 0, memory_order_release);
	}
}

int cfi_init(void)
{
	if (cfi_rows)
		return 0;
	void *memory = base_map(2 * CFI_ROWS_LAST * sizeof *cfi_rows);
	if (!memory)
		return -ENOMEM;
	void *none = NULL;
	if (!__atomic_compare_exchange_n((void **)&cfi_rows, &none, memory, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		munmap(memory, 2 * CFI_ROWS_LAST * sizeof *cfi_rows); /* another thread was faster */
	return 0;
}
