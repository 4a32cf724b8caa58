/* What libunwind asks of its user who unwinds another process: memory, registers, tables. */
#define _GNU_SOURCE
#include "core/path/unwinder.h"

#include <dlfcn.h>
#include <errno.h>
#include <libunwind-x86_64.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/single_threaded.h>

#include "core/library.h"
#include "core/path/cfi.h"
#include "core/path/module.h"

#define STEPS_TO_HOOK 32 /* from here down to the frame that is asked for, at most */
#define PAGES_KNOWN 16u

static struct {
	typeof(&unw_create_addr_space) create;
	typeof(&unw_init_remote) init;
	typeof(&unw_get_reg) get;
	int (*search)(unw_addr_space_t, unw_word_t, unw_dyn_info_t *, unw_proc_info_t *, int,
		      void *); /* as perf does */
	typeof(&unw_step) step; /* last; NULL: there is no library to use */
} unw;

/* A thread that was in libunwind when the process forked may have held a lock of its memory pool: the child asks it no more. */
static struct {
	_Atomic uint32_t forks, inside;
	_Atomic bool lost;
} users;

static bool enter(void)
{
	uint32_t forks = base_forks();
	if (unlikely(atomic_exchange(&users.forks, forks) != forks) && atomic_exchange(&users.inside, 0))
		atomic_store(&users.lost, true);
	if (atomic_load(&users.lost))
		return false;
	atomic_fetch_add(&users.inside, 1);
	return true;
}

static void leave(void)
{
	atomic_fetch_sub(&users.inside, 1);
}

/* Who is unwound: what a call leaves as it was, as of the start, and pages that are known to be readable, by their number. */
struct subject {
	uintptr_t registers[UNW_X86_64_RIP + 1];
	uintptr_t pages[PAGES_KNOWN];
};

static bool is_readable(struct subject *subject, uintptr_t address)
{
	uintptr_t page = address / PAGE_BYTES, *known = &subject->pages[page % PAGES_KNOWN];
	if (likely(page == *known))
		return true;
	if (!page || address >> WALK_ADDRESS_BITS || !base_page_readable(address))
		return false;
	*known = page;
	return true;
}

static int access_memory(unw_addr_space_t space, unw_word_t address, unw_word_t *value, int writes, void *subject)
{
	(void)space;
	if (writes || !is_readable(subject, address) || !is_readable(subject, address + sizeof *value - 1))
		return -UNW_EINVAL;
	__builtin_memcpy(value, (const void *)address, sizeof *value);
	return 0;
}

static int access_register(unw_addr_space_t space, unw_regnum_t number, unw_word_t *value, int writes, void *context)
{
	const struct subject *subject = context;
	(void)space;
	if (writes || number < 0 || number > UNW_X86_64_RIP)
		return -UNW_EBADREG;
	*value = subject->registers[number];
	return 0;
}

static int no_float(unw_addr_space_t space, unw_regnum_t number, unw_fpreg_t *value, int writes, void *subject)
{
	(void)space, (void)number, (void)value, (void)writes, (void)subject;
	return -UNW_EBADREG;
}

static int find_tables(unw_addr_space_t space, unw_word_t pc, unw_proc_info_t *found, int need_info, void *subject)
{
	uint32_t index = path_module_of(pc);
	if (index == UINT32_MAX || !module_unwind_at(index)->table)
		return -UNW_ENOINFO;
	const struct path_module *module = path_module_at(index);
	const struct module_unwind *unwind = module_unwind_at(index);
	unw_dyn_info_t tables = {
		.start_ip = module->start,
		.end_ip = module->end,
		.format = UNW_INFO_FORMAT_REMOTE_TABLE,
		.u.rti = {.segbase = (uintptr_t)unwind->header,
			  .table_data = (uintptr_t)unwind->table,
			  .table_len = unwind->entries * 2 * sizeof *unwind->table / sizeof(unw_word_t)}};
	return unw.search(space, pc, &tables, found, need_info, subject);
}

static void put_tables(unw_addr_space_t space, unw_proc_info_t *found, void *subject)
{
	(void)space, (void)found, (void)subject;
}

static int no_list(unw_addr_space_t space, unw_word_t *address, void *subject)
{
	(void)space, (void)address, (void)subject;
	return -UNW_ENOINFO;
}

/* Its own start opens a pipe, to ask whether memory can be read, and keeps it. It is not asked for that, and a program does not
   expect two descriptors: there are none to be had meanwhile. Other threads would miss them. */
static void start_without_pipe(unw_addr_space_t space)
{
	struct subject nobody = {.pages = {0}};
	unw_cursor_t cursor;
	struct rlimit limit;
	if (!__libc_single_threaded || getrlimit(RLIMIT_NOFILE, &limit))
		return;
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max}))
		return;
	unw.init(&cursor, space, &nobody);
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* What asks us; made at the first frame that needs it, which most programs never come to: it takes 100 KiB. NULL: no memory. */
static unw_addr_space_t space_in_use(void)
{
	static union {
		unw_accessors_t known;
		void *all[32]; /* later versions ask for more, and take NULL for "it is not there" */
	} accessors = {.known = {.find_proc_info = find_tables,
				 .put_unwind_info = put_tables,
				 .get_dyn_info_list_addr = no_list,
				 .access_mem = access_memory,
				 .access_reg = access_register,
				 .access_fpreg = no_float}};
	static _Atomic(unw_addr_space_t) in_use;
	unw_addr_space_t space = atomic_load(&in_use), none = NULL;
	if (likely(space != NULL))
		return space;
	space = unw.create(&accessors.known, 0); /* without a cache, whose lock an interrupted thread could hold */
	if (!space)
		return NULL;
	start_without_pipe(space);
	return atomic_compare_exchange_strong(&in_use, &none, space) ? space : none; /* another thread's; ours stays */
}

int unwinder_init(void)
{
	void *library = library_open("libunwind-x86_64.so.8");
	if (!library)
		return -ENOENT;
	unw.create = (typeof(unw.create))dlsym(library, "_Ux86_64_create_addr_space");
	unw.init = (typeof(unw.init))dlsym(library, "_Ux86_64_init_remote");
	unw.get = (typeof(unw.get))dlsym(library, "_Ux86_64_get_reg");
	unw.search = (typeof(unw.search))dlsym(library, "_Ux86_64_dwarf_search_unwind_table");
	typeof(unw.step) step = (typeof(unw.step))dlsym(library, "_Ux86_64_step");
	if (!unw.create || !unw.init || !unw.get || !unw.search || !step)
		return -ENOENT;
	unw.step = step;
	return 0;
}

/* The frame that runs here. */
static always_inline struct subject subject_here(void)
{
	struct subject subject = {.pages = {0}};
	uintptr_t *at = subject.registers;
	__asm__ volatile("movq %%rbx, %c[rbx](%[at])\n\t"
			 "movq %%rbp, %c[rbp](%[at])\n\t"
			 "movq %%rsp, %c[rsp](%[at])\n\t"
			 "movq %%r12, %c[r12](%[at])\n\t"
			 "movq %%r13, %c[r13](%[at])\n\t"
			 "movq %%r14, %c[r14](%[at])\n\t"
			 "movq %%r15, %c[r15](%[at])\n\t"
			 "leaq 0f(%%rip), %%rax\n\t"
			 "movq %%rax, %c[rip](%[at])\n"
			 "0:"
			 :
			 : [at] "r"(at), [rbx] "i"(8 * UNW_X86_64_RBX), [rbp] "i"(8 * UNW_X86_64_RBP),
			   [rsp] "i"(8 * UNW_X86_64_RSP), [r12] "i"(8 * UNW_X86_64_R12), [r13] "i"(8 * UNW_X86_64_R13),
			   [r14] "i"(8 * UNW_X86_64_R14), [r15] "i"(8 * UNW_X86_64_R15), [rip] "i"(8 * UNW_X86_64_RIP)
			 : "rax", "memory");
	return subject;
}

static __attribute__((noinline)) bool walk_in(unw_addr_space_t space, const uintptr_t *fp, struct walk *walk)
{
	struct subject subject = subject_here();
	unw_cursor_t cursor;
	unw_word_t sp = 0, pc = 0;
	if (unw.init(&cursor, space, &subject))
		return false;
	for (int steps = 0; sp != (uintptr_t)(fp + 2); steps++)
		if (steps == STEPS_TO_HOOK || unw.step(&cursor) <= 0 || unw.get(&cursor, UNW_X86_64_RSP, &sp) < 0)
			return false;
	size_t count = 0;
	bool more = true;
	while (more && count < walk->max && unw.get(&cursor, UNW_X86_64_RIP, &pc) >= 0 && pc) {
		if (count < walk->count && walk->pcs[count] != pc)
			return false;
		walk->pcs[count++] = pc;
		/* Where there is no unwind information libunwind would guess. */
		more = cfi_row_of(pc, false).kind != CFI_NONE && unw.step(&cursor) > 0;
	}
	walk->cut = more && count == walk->max;
	bool further = count >= walk->count;
	walk->count = further ? count : walk->count;
	return further;
}

bool unwinder_walk(const uintptr_t *fp, struct walk *walk)
{
	int state;
	if (!unw.step || base_spares_calls() || !enter()) /* its locks keep signals out */
		return false;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	unw_addr_space_t space = space_in_use();
	bool further = space && walk_in(space, fp, walk);
	pthread_setcancelstate(state, NULL);
	leave();
	return further;
}
