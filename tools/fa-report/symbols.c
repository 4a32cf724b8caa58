/* One Dwfl holds every module that was asked about. Symbol tables are sorted once a module; DWARF is touched only where
   there is any. */
#define _GNU_SOURCE
#include "tools/fa-report/symbols.h"

#include <elfutils/libdwfl.h>
#include <libiberty/demangle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/fa-report/symbols_dwarf.h"

struct function_symbol {
	uint64_t start, end;
	const char *name;
};

struct module {
	bool tried;
	Dwfl_Module *dwfl;
	uint64_t bias; /* Dwfl address = offset + bias */
	bool dwarf;
	struct function_symbol *symbol;
	size_t symbol_count;
	char build_id[48];
	bool own;
};

struct place_key {
	uint32_t module;
	uint64_t offset;
};

struct symbols {
	const struct reader_array *nodes, *modules;
	struct symbols_options options;
	Dwfl *dwfl;
	struct symbols_dwarf *dwarf;
	struct module *module;
	struct symbol_place **of_node;
	struct symbol_place **hash; /* by (module, offset) */
	struct place_key *key;
	size_t hash_size;
};

static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_build_id_find_elf,
					 .find_debuginfo = dwfl_standard_find_debuginfo,
					 .section_address = dwfl_offline_section_address};

struct symbols *symbols_open(const struct reader *reader, const struct symbols_options *options)
{
	struct symbols *symbols = calloc(1, sizeof *symbols);
	if (!symbols)
		return NULL;
	symbols->nodes = reader_array(reader, TRACE_KIND_NODE, 0);
	symbols->modules = reader_array(reader, TRACE_KIND_MODULE, 0);
	symbols->options = *options;
	/* Debug files come from this machine: a report waits for no server. */
	unsetenv("DEBUGINFOD_URLS");
	symbols->dwfl = dwfl_begin(&callbacks);
	symbols->dwarf = symbols_dwarf_open();
	symbols->module = calloc(symbols->modules->count + 1u, sizeof *symbols->module);
	symbols->of_node = calloc(symbols->nodes->count + 1u, sizeof *symbols->of_node);
	symbols->hash_size = 1024;
	while (symbols->hash_size < 2u * symbols->nodes->count)
		symbols->hash_size *= 2;
	symbols->hash = calloc(symbols->hash_size, sizeof *symbols->hash);
	symbols->key = calloc(symbols->hash_size, sizeof *symbols->key);
	if (symbols->dwfl && symbols->dwarf && symbols->module && symbols->of_node && symbols->hash && symbols->key)
		return symbols;
	symbols_close(symbols);
	return NULL;
}

void symbols_close(struct symbols *symbols)
{
	/* Names and places are left to the process's end: outputs hold on to them. */
	symbols_dwarf_close(symbols->dwarf);
	if (symbols->dwfl)
		dwfl_end(symbols->dwfl);
	free(symbols->module);
	free(symbols->of_node);
	free(symbols->hash);
	free(symbols->key);
	free(symbols);
}

static int by_start(const void *left, const void *right)
{
	const struct function_symbol *a = left, *b = right;
	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return a->end != b->end ? (a->end < b->end ? 1 : -1) : strcmp(a->name, b->name);
}

static void read_symbols(struct module *module)
{
	int count = dwfl_module_getsymtab(module->dwfl);
	if (count <= 0)
		return;
	module->symbol = calloc((size_t)count, sizeof *module->symbol);
	for (int i = 1; module->symbol && i < count; i++) {
		GElf_Sym symbol;
		GElf_Addr address;
		const char *name = dwfl_module_getsym_info(module->dwfl, i, &symbol, &address, NULL, NULL, NULL);
		int type = GELF_ST_TYPE(symbol.st_info);
		if (!name || !*name || symbol.st_shndx == SHN_UNDEF ||
		    (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
			continue;
		if (type == STT_NOTYPE && !symbol.st_size)
			continue;
		module->symbol[module->symbol_count++] =
			(struct function_symbol){address - module->bias, address - module->bias + symbol.st_size, name};
	}
	if (module->symbol_count)
		qsort(module->symbol, module->symbol_count, sizeof *module->symbol, by_start);
}

static bool build_id_agrees(Dwfl_Module *dwfl, const struct trace_module *record)
{
	const unsigned char *bits;
	GElf_Addr address;
	int bytes = dwfl_module_build_id(dwfl, &bits, &address);
	return bytes <= 0 || !record->build_id_bytes || record->build_id_bytes > sizeof record->build_id ||
	       ((uint32_t)bytes >= record->build_id_bytes && !memcmp(bits, record->build_id, record->build_id_bytes));
}

/* Opens a module at its first address. A file that is not the one recorded is not used. */
static struct module *module_at(struct symbols *symbols, uint32_t index)
{
	const struct trace_module *record = reader_at(symbols->modules, index);
	if (!record)
		return NULL;
	struct module *module = &symbols->module[index];
	if (module->tried)
		return module;
	module->tried = true;
	for (uint32_t i = 0; i < record->build_id_bytes && i < sizeof record->build_id; i++)
		snprintf(module->build_id + 2 * i, 3, "%02x", record->build_id[i]);
	const char *name = strrchr(record->path, '/');
	module->own = strcmp(name ? name + 1 : record->path, "libframealloc.so") == 0;
	if (record->path[0] != '/' || module->own)
		return module;
	char *path = NULL;
	if (asprintf(&path, "%s%s", symbols->options.sysroot ? symbols->options.sysroot : "", record->path) < 0)
		return module;
	/* Plain files only: a damaged recording may name a pipe or a device. */
	struct stat what;
	if (stat(path, &what) == 0 && S_ISREG(what.st_mode)) {
		dwfl_report_begin_add(symbols->dwfl);
		module->dwfl = dwfl_report_offline(symbols->dwfl, path, path, -1);
		dwfl_report_end(symbols->dwfl, NULL, NULL);
	}
	free(path);
	GElf_Addr bias = 0;
	if (module->dwfl && (!dwfl_module_getelf(module->dwfl, &bias) || !build_id_agrees(module->dwfl, record)))
		module->dwfl = NULL;
	if (!module->dwfl)
		return module;
	module->bias = bias;
	read_symbols(module);
	Dwarf_Addr dwarf_bias;
	module->dwarf = dwfl_module_getdwarf(module->dwfl, &dwarf_bias) != NULL;
	return module;
}

static void name_frame(struct symbol_frame *frame, const char *linkage_name)
{
	if (!linkage_name)
		return;
	frame->linkage_name = linkage_name;
	frame->signature = cplus_demangle(linkage_name, DMGL_AUTO | DMGL_ANSI | DMGL_PARAMS);
	frame->function = cplus_demangle(linkage_name, DMGL_AUTO | DMGL_ANSI);
	if (!frame->signature)
		frame->signature = linkage_name;
	if (!frame->function)
		frame->function = linkage_name;
}

static const char *symbol_name(const struct module *module, uint64_t offset)
{
	size_t low = 0, high = module->symbol_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (module->symbol[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	/* The nearest start below; sized symbols must hold the address, the last of equals is the smallest. */
	for (size_t i = low, steps = 0; i-- && steps < 16; steps++)
		if (offset < module->symbol[i].end)
			return module->symbol[i].name;
	return NULL;
}

static struct symbol_frame *place_add(struct symbol_place *place, const struct symbol_frame *like)
{
	struct symbol_frame *more = realloc(place->frame, (place->count + 1) * sizeof *more);
	if (!more)
		abort();
	place->frame = more;
	place->frame[place->count] = *like;
	return &place->frame[place->count++];
}

/* Line and inlined functions from DWARF, innermost first. False: DWARF does not know the address. */
static bool from_dwarf(const struct symbols *symbols, const struct module *module, uint64_t lookup,
		       const struct symbol_frame *like, struct symbol_place *place)
{
	Dwarf_Addr bias;
	Dwarf_Addr address = lookup + module->bias;
	Dwarf_Die *cu = dwfl_module_addrdie(module->dwfl, address, &bias);
	if (!cu ||
	    dwarf_haspc(cu, address - bias) != 1) /* the nearest unit is offered even where none has the address */
		return false;
	const char *file = NULL;
	int line = 0;
	Dwfl_Line *source = dwfl_module_getsrc(module->dwfl, address);
	if (source)
		file = dwfl_lineinfo(source, NULL, &line, NULL, NULL, NULL);
	Dwarf_Die chain[SYMBOLS_DWARF_DEPTH];
	size_t count = symbols_dwarf_chain(symbols->dwarf, cu, address - bias, chain);
	for (size_t i = 0; i < count; i++) {
		bool inlined = i + 1 < count;
		if (inlined && (symbols->options.no_inlines || symbols_dwarf_is_artificial(&chain[i]))) {
			file = symbols_dwarf_call(cu, &chain[i], &line);
			continue;
		}
		struct symbol_frame *frame = place_add(place, like);
		name_frame(frame, symbols_dwarf_name(&chain[i]));
		frame->file = file;
		frame->line = line;
		frame->inlined = inlined;
		if (inlined)
			file = symbols_dwarf_call(cu, &chain[i], &line);
	}
	if (file && !count) {
		struct symbol_frame *frame = place_add(place, like);
		frame->file = file;
		frame->line = line;
		name_frame(frame, symbol_name(module, lookup));
	}
	return place->count > 0;
}

static struct symbol_place *look_up(struct symbols *symbols, const struct trace_node *node)
{
	struct symbol_place *place = calloc(1, sizeof *place);
	if (!place)
		abort();
	uint64_t offset = TRACE_NODE_OFFSET(node->offset);
	uint64_t lookup = node->offset & TRACE_NODE_EXACT || !offset ? offset : offset - 1;
	struct symbol_frame like = {.offset = offset};
	struct module *module = module_at(symbols, node->module);
	if (module) {
		like.module = ((const struct trace_module *)reader_at(symbols->modules, node->module))->path;
		like.build_id = module->build_id[0] ? module->build_id : NULL;
		place->own = module->own;
	}
	if (module && module->dwarf && from_dwarf(symbols, module, lookup, &like, place)) {
		/* C++ names of the outermost function are whole in the symbol table even where DWARF has only a short one. */
		struct symbol_frame *outer = &place->frame[place->count - 1];
		const char *name = symbol_name(module, lookup);
		if (name && (!outer->linkage_name || strncmp(name, "_Z", 2) == 0 || strncmp(name, "_R", 2) == 0))
			name_frame(outer, name);
		return place;
	}
	struct symbol_frame *frame = place_add(place, &like);
	if (module && module->dwfl)
		name_frame(frame, symbol_name(module, lookup));
	return place;
}

struct symbol_place *symbols_of_node(struct symbols *symbols, uint32_t index)
{
	static struct trace_node unknown = {.module = TRACE_NO_MODULE};
	const struct trace_node *node = reader_at(symbols->nodes, index);
	if (!node)
		return look_up(symbols, &unknown);
	if (symbols->of_node[index])
		return symbols->of_node[index];
	struct place_key key = {node->module, node->offset & ~TRACE_NODE_CUT};
	size_t at = (key.offset * 0x9e3779b97f4a7c15u ^ (uint64_t)key.module << 17) % symbols->hash_size;
	while (symbols->hash[at] && (symbols->key[at].module != key.module || symbols->key[at].offset != key.offset))
		at = (at + 1) % symbols->hash_size;
	if (!symbols->hash[at]) {
		symbols->hash[at] = look_up(symbols, node);
		symbols->key[at] = key;
	}
	return symbols->of_node[index] = symbols->hash[at];
}

uint32_t symbols_parent(const struct symbols *symbols, uint32_t index)
{
	const struct trace_node *node = reader_at(symbols->nodes, index);
	/* Parents are made before their children: anything else is damage, and would never end. */
	return node && node->parent < index ? node->parent : 0;
}
