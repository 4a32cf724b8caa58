/*
 * What is mapped where: a registry of the process's ELF modules, filled from dl_iterate_phdr when the loader tells of a change;
 * where it does not, by the unwinder at misses and by the recording at markers. Invariants: an index, once given, means the same
 * file at the same address for the process's life; slots are never moved or reused for another module; lookups take no lock.
 */
#define _GNU_SOURCE
#include "core/path/module.h"

#define REFRESH_TRIES 100
#define LOADER_TURNS 100u /* some 2 ms */

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/path/cfi.h"

#define TEXT_BYTES (512u << 10) /* paths and build ids */

_Alignas(64) _Atomic uint32_t module_epoch = MODULE_NOT_STARTED;
_Alignas(64) _Atomic uint32_t module_changes;
__thread bool module_refresh_barred;

static struct path_module modules[PATH_MODULES_MAX];
static struct module_unwind unwinds[PATH_MODULES_MAX];
static bool seen[PATH_MODULES_MAX]; /* by the running refresh */
static _Atomic size_t module_count;
static struct module_range changed_ranges[MODULE_CHANGES_KEPT];
static _Atomic uintptr_t foreign_low = UINTPTR_MAX, foreign_high; /* of code in no module on paths so far */

/* Loaded modules by address. Written under `refreshing`; readers retry when `sequence` moved or is odd. */
static struct {
	_Atomic uint32_t sequence;
	_Atomic uint32_t count;
	struct {
		_Atomic uintptr_t start, end;
		_Atomic uint32_t index;
	} at[PATH_MODULES_MAX];
} sorted;

static _Atomic int32_t refreshing; /* pid of the process that refreshes: after a fork the child is not it */
static _Atomic uint64_t known_adds, known_subs;
static _Atomic uint32_t beyond; /* modules that there was no room for, as found by the last visit */
static uintptr_t loader_start, loader_bytes;
static uint8_t *text;
static size_t text_used;

static const void *text_keep(const void *from, size_t bytes)
{
	if (!text) {
		void *memory = base_map(TEXT_BYTES);
		if (!memory)
			return NULL;
		text = memory;
	}
	if (bytes > TEXT_BYTES - text_used)
		return NULL;
	void *copy = memcpy(text + text_used, from, bytes);
	text_used += bytes;
	return copy;
}

/* As the loader found it, from the folder that was current then (dlopen("./plugin.so")): without the dot. */
static const char *without_dot(const char *name)
{
	return name[0] == '.' && name[1] == '/' ? name + 2 : name;
}

static const char *name_keep(const struct dl_phdr_info *info, uintptr_t start)
{
	char path[4096];
	const char *name = info->dlpi_name;
	if (start == getauxval(AT_SYSINFO_EHDR)) {
		name = "[vdso]";
	} else if (!name || !*name) {
		ssize_t bytes = readlink("/proc/self/exe", path, sizeof path - 1);
		path[bytes > 0 ? bytes : 0] = 0;
		name = path;
	} else if (name[0] != '/') { /* whoever looks for it does so from elsewhere */
		long bytes =
			syscall(SYS_getcwd, path, sizeof path); /* with the 0; not below the root: "(unreachable)" */
		if (bytes > 1 && path[0] == '/') {
			char *end = path + bytes - 1;
			if (end[-1] != '/')
				*end++ = '/';
			base_text_copy(end, (size_t)(path + sizeof path - end), without_dot(name));
			name = path;
		}
	}
	const char *kept = text_keep(name, base_text_length(name) + 1);
	return kept ? kept : "";
}

/* Whether `path` is what name_keep has made of `name`. */
static bool is_path_of(const char *path, const char *name)
{
	size_t bytes = base_text_length(path), end = base_text_length(without_dot(name));
	bool found_by_folder = name[0] != '/' && path[0] == '/';
	return found_by_folder ? bytes > end && path[bytes - end - 1] == '/' &&
					 base_text_equal(path + bytes - end, without_dot(name))
			       : base_text_equal(path, name);
}

static void build_id_keep(struct path_module *module, const uint8_t *note, size_t bytes)
{
	while (bytes >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr header;
		memcpy(&header, note, sizeof header);
		size_t name_bytes = round_up(header.n_namesz, 4),
		       all = sizeof header + name_bytes + round_up(header.n_descsz, 4);
		if (all > bytes)
			return;
		if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 &&
		    !memcmp(note + sizeof header, "GNU", 4)) {
			module->build_id = text_keep(note + sizeof header + name_bytes, header.n_descsz);
			module->build_id_bytes = module->build_id ? header.n_descsz : 0;
			return;
		}
		note += all;
		bytes -= all;
	}
}

static const ElfW(Phdr) * header_of(const struct dl_phdr_info *info, uint32_t type)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == type)
			return &info->dlpi_phdr[i];
	return NULL;
}

static void unwind_table_find(struct module_unwind *unwind, const struct path_module *module,
			      const struct dl_phdr_info *info)
{
	const ElfW(Phdr) *frames = header_of(info, PT_GNU_EH_FRAME);
	if (!frames)
		return;
	const uint8_t *header = (const uint8_t *)(module->base + frames->p_vaddr);
	size_t bytes = frames->p_memsz;
	/* The one layout that linkers write: version 1, table of sorted 32-bit pairs relative to the header itself. */
	if (bytes < 12 || header[0] != 1 || header[2] != 0x03 || header[3] != 0x3b || (header[1] & 0x0f) != 0x0b)
		return;
	uint32_t entries;
	memcpy(&entries, header + 8, sizeof entries);
	if (entries > (bytes - 12) / 8 || (uintptr_t)header + bytes > module->end)
		return;
	unwind->header = header;
	unwind->entries = entries;
	unwind->table = (const int32_t *)(header + 12);
}

static void module_describe(const struct dl_phdr_info *info, struct path_module *module)
{
	*module = (struct path_module){.base = info->dlpi_addr, .start = UINTPTR_MAX, .code_start = UINTPTR_MAX};
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		if (header->p_type != PT_LOAD)
			continue;
		uintptr_t from = module->base + (header->p_vaddr & ~(uintptr_t)4095);
		uintptr_t to = round_up(module->base + header->p_vaddr + header->p_memsz, 4096);
		module->start = from < module->start ? from : module->start;
		module->end = to > module->end ? to : module->end;
		if (!(header->p_flags & PF_X))
			continue;
		module->code_start = from < module->code_start ? from : module->code_start;
		module->code_end = to > module->code_end ? to : module->code_end;
	}
}

/* The same file at the same place: what was known of it is still true. */
static bool module_is(const struct path_module *known, const struct path_module *now, const struct dl_phdr_info *info)
{
	if (known->base != now->base || known->start != now->start || known->end != now->end)
		return false;
	if (!known->unloaded && !atomic_load(&known_subs))
		return true;
	struct module_unwind unwind = {0};
	unwind_table_find(&unwind, now, info);
	if (memcmp(&unwind, &unwinds[known - modules], sizeof unwind)) /* other code may have the same build-id */
		return false;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		if (header->p_type != PT_NOTE || !known->build_id)
			continue;
		const uint8_t *note = (const uint8_t *)(now->base + header->p_vaddr);
		if (memmem(note, header->p_memsz, known->build_id, known->build_id_bytes))
			return true;
	}
	const char *name = info->dlpi_name;
	return !known->build_id && !known->unloaded && (!name || !*name || is_path_of(known->path, name));
}

static void note_change(const struct path_module *module)
{
	uint32_t number = atomic_load(&module_changes);
	changed_ranges[number % MODULE_CHANGES_KEPT] = (struct module_range){module->start, module->end};
	atomic_store(&module_changes, number + 1);
}

void module_note_foreign(uintptr_t pc)
{
	uintptr_t low = atomic_load(&foreign_low), high = atomic_load(&foreign_high);
	while (pc < low && !atomic_compare_exchange_weak(&foreign_low, &low, pc))
		;
	while (pc > high && !atomic_compare_exchange_weak(&foreign_high, &high, pc))
		;
}

/* Paths through code in no module may have led through its place. */
static void note_arrival(const struct path_module *module)
{
	if (module->start < atomic_load(&foreign_high) && module->end >= atomic_load(&foreign_low))
		note_change(module);
}

static void module_add(const struct dl_phdr_info *info, struct path_module *found)
{
	size_t index = atomic_load_explicit(&module_count, memory_order_relaxed);
	if (index == PATH_MODULES_MAX) {
		beyond++;
		return;
	}
	found->path = name_keep(info, found->start);
	for (size_t i = 0; i < info->dlpi_phnum && !found->build_id; i++)
		if (info->dlpi_phdr[i].p_type == PT_NOTE)
			build_id_keep(found, (const uint8_t *)(found->base + info->dlpi_phdr[i].p_vaddr),
				      info->dlpi_phdr[i].p_memsz);
	unwind_table_find(&unwinds[index], found, info);
	if (found->base && found->base == _r_debug.r_ldbase) {
		loader_start = found->start;
		loader_bytes = found->end - found->start;
	}
	modules[index] = *found;
	seen[index] = true;
	note_arrival(found);
	atomic_store_explicit(&module_count, index + 1, memory_order_release);
}

static int visit(struct dl_phdr_info *info, size_t bytes, void *context)
{
	(void)bytes;
	bool *changed = context;
	if (!*changed) {
		if (info->dlpi_adds == atomic_load(&known_adds) && info->dlpi_subs == atomic_load(&known_subs))
			return 1;
		*changed = true;
		beyond = 0;
		atomic_store(&known_adds, info->dlpi_adds);
		atomic_store(&known_subs, info->dlpi_subs);
	}
	struct path_module found;
	module_describe(info, &found);
	if (found.start >= found.end)
		return 0;
	size_t count = atomic_load_explicit(&module_count, memory_order_relaxed);
	for (size_t i = 0; i < count; i++)
		if (!seen[i] && module_is(&modules[i], &found, info)) {
			seen[i] = true;
			if (modules[i].unloaded)
				note_arrival(&modules[i]);
			__atomic_store_n(&modules[i].unloaded, false, __ATOMIC_RELEASE);
			return 0;
		}
	module_add(info, &found);
	return 0;
}

static void retire_unseen(size_t count_before)
{
	for (size_t i = 0; i < count_before; i++) {
		if (seen[i] || modules[i].unloaded)
			continue;
		__atomic_store_n(&modules[i].unloaded, true, __ATOMIC_RELEASE);
		cfi_forget(modules[i].start, modules[i].end);
		note_change(&modules[i]);
	}
}

static void publish(void)
{
	uint32_t count = 0;
	atomic_fetch_add(&sorted.sequence, 1);
	for (size_t i = 0; i < atomic_load(&module_count); i++) {
		if (modules[i].unloaded)
			continue;
		uint32_t at = count++;
		for (; at && sorted.at[at - 1].start > modules[i].start; at--) {
			sorted.at[at].start = sorted.at[at - 1].start;
			sorted.at[at].end = sorted.at[at - 1].end;
			sorted.at[at].index = sorted.at[at - 1].index;
		}
		sorted.at[at].start = modules[i].start;
		sorted.at[at].end = modules[i].end;
		sorted.at[at].index = (uint32_t)i;
	}
	sorted.count = count;
	atomic_fetch_add(&sorted.sequence, 1);
}

static struct {
	_Atomic uint32_t told; /* how often the loader has; 0: it does not tell */
	_Atomic uint32_t looked; /* at all that it had told by then */
	_Atomic bool leaving;
	_Atomic bool missed; /* who was told could not look */
	_Atomic uint32_t forks; /* of the process whose loader told last */
} events;
static __thread bool in_loader; /* this thread tells, or is about to */

/* False: another refresh goes on, and will for who knows how long. */
static bool begin_refresh(void)
{
	/* Whoever else is inside may have started before the module that we miss was there: wait a little, never for good
	   (it may be this thread, interrupted, or wait for the loader's lock that we hold). A holder from before a fork is no
	   more. */
	int32_t self = (int32_t)base_forks() + 1, holder = 0;
	for (int tries = 0; !atomic_compare_exchange_strong(&refreshing, &holder, self); tries++) {
		if (holder == self && tries == REFRESH_TRIES)
			return false;
		if (holder == self) {
			base_wait((unsigned)tries);
			holder = 0;
		}
	}
	return true;
}

/* Asks the loader, under its lock. False: that cannot be done now. */
static bool look(void)
{
	if (module_refresh_barred || base_hurries()) /* who has the loader's lock may wait for what this thread holds */
		return false;
	int saved_errno = errno;
	if (!begin_refresh())
		return false;
	bool changed = false;
	uint32_t told = atomic_load(&events.told);
	size_t count_before = atomic_load(&module_count);
	uint32_t changes_before = atomic_load(&module_changes);
	memset(seen, 0, sizeof seen);
	dl_iterate_phdr(visit, &changed);
	if (changed) {
		retire_unseen(count_before);
		publish();
		if (atomic_load(&module_changes) != changes_before)
			module_suspect();
	}
	atomic_store(&events.missed, false);
	atomic_store(&events.looked, told); /* last: who comes by meanwhile waits */
	atomic_store(&refreshing, 0);
	errno = saved_errno;
	return true;
}

void path_modules_told(void)
{
	in_loader = true;
	atomic_store(&events.forks, base_forks());
	atomic_fetch_add(&events.told, 1);
	atomic_store(&events.leaving, false);
	if (!look())
		atomic_store(&events.missed, true);
	in_loader = false;
}

void path_modules_leaving(void)
{
	in_loader = true;
	atomic_store(&events.forks, base_forks());
	atomic_store(&events.leaving, true);
}

static bool loader_is_at_it(void)
{
	return atomic_load(&events.leaving) || atomic_load(&events.told) != atomic_load(&events.looked);
}

/* The thread that the loader tells looks: others give it the time that this takes as a rule. It may wait for the lock under which
   modules are looked at, whose holder may wait for what the caller of malloc holds; after a fork there is no such thread. */
static void wait_for_loader(void)
{
	bool here = atomic_load(&events.forks) == base_forks();
	for (unsigned turn = 0; here && turn < LOADER_TURNS; turn++) {
		if (!loader_is_at_it())
			return;
		base_wait(turn);
	}
	atomic_store(&events.leaving, false); /* once is enough */
	atomic_store(&events.looked, atomic_load(&events.told));
}

void path_modules_refresh(void)
{
	if (!atomic_load(&events.told) || atomic_load(&events.missed))
		(void)look();
	else if (unlikely(loader_is_at_it()) && !in_loader && !module_refresh_barred && !base_hurries())
		wait_for_loader();
}

size_t path_modules_count(void)
{
	return atomic_load_explicit(&module_count, memory_order_acquire);
}

size_t path_modules_beyond(void)
{
	return beyond;
}

const struct path_module *path_module_at(size_t index)
{
	return index < path_modules_count() ? &modules[index] : NULL;
}

const struct module_unwind *module_unwind_at(uint32_t index)
{
	return &unwinds[index];
}

static bool lookup(uintptr_t pc, uint32_t *index)
{
	uint32_t sequence = atomic_load_explicit(&sorted.sequence, memory_order_acquire);
	uint32_t low = 0, high = atomic_load_explicit(&sorted.count, memory_order_relaxed);
	*index = UINT32_MAX;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (atomic_load_explicit(&sorted.at[middle].start, memory_order_relaxed) <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	if (low && pc < atomic_load_explicit(&sorted.at[low - 1].end, memory_order_relaxed))
		*index = atomic_load_explicit(&sorted.at[low - 1].index, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	return !(sequence & 1) && sequence == atomic_load_explicit(&sorted.sequence, memory_order_relaxed);
}

uint32_t path_module_of(uintptr_t pc)
{
	uint32_t index;
	for (int attempt = 0; attempt < 16; attempt++)
		if (lookup(pc, &index))
			return index;
	/* The writer may be the very thread that a signal handler interrupted: look without the order. */
	for (size_t i = path_modules_count(); i--;)
		if (!modules[i].unloaded && pc >= modules[i].start && pc < modules[i].end)
			return (uint32_t)i;
	return UINT32_MAX;
}

bool module_says_data(uintptr_t pc)
{
	const struct path_module *module = path_module_at(path_module_of(pc));
	return module && (pc < module->code_start || pc >= module->code_end);
}

struct module_range module_changed_range(uint32_t number)
{
	return changed_ranges[number % MODULE_CHANGES_KEPT];
}

bool module_is_loader(uintptr_t pc)
{
	return pc - loader_start < loader_bytes;
}

void module_suspect(void)
{
	uint32_t epoch = atomic_load(&module_epoch);
	while (!atomic_compare_exchange_weak(&module_epoch, &epoch,
					     epoch >= UINT32_MAX - 1 ? MODULE_NOT_STARTED + 1 : epoch + 1))
		;
}

int module_init(void)
{
	path_modules_refresh();
	return path_modules_count() ? 0 : -ENOENT;
}
