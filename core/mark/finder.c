/*
 * FUNC specs → functions. bind.c calls finder_each for every marker; each call looks through all modules but our own.
 *
 *   spec   = [module "!"] name | module "+0x" offset
 *   module = file name with or without its .so suffix, path, or a glob over either
 *   name   = linkage name | demangled name with or without parameters | a glob over any of them
 *
 * Two rounds: the first compares linkage names and those demangled names that can be read without a demangler; only
 * when it finds nothing, and the name can be a demangled one, the second asks the C++ runtime's demangler.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"
#include "core/mark/demangle.h"
#include "core/mark/extent.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/mark/names.h"
#include "core/mark/symbols.h"

#define SPEC_MAX_BYTES 1024
#define NAME_MAX_BYTES 4096

struct spec {
	char module[SPEC_MAX_BYTES]; /* empty: any */
	struct name_pattern name;
	bool by_offset;
	uintptr_t offset;
};

/* Addresses reported so far: open addressing, doubled when half full, in memory of its own. */
struct seen {
	uintptr_t *slots;
	size_t capacity, count;
};

struct finding {
	const struct spec *spec;
	bool (*found)(void *context, const struct mark_function *function);
	void *context;
	bool full_names; /* second round */
	bool stopped;
	int count;
	bool module_matched, offset_outside;
	bool candidates; /* mangled names seen that a demangler might find to match */
	struct seen seen;
};

static bool parse_offset(const char *text, uintptr_t *offset)
{
	uintptr_t value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		unsigned digit = *text >= '0' && *text <= '9'                 ? (unsigned)(*text - '0')
				 : (*text | 32) >= 'a' && (*text | 32) <= 'f' ? (unsigned)((*text | 32) - 'a') + 10
									      : 16;
		if (digit > 15 || value >> 60)
			return false;
		value = value << 4 | digit;
	}
	*offset = value;
	return true;
}

/* The `!` that ends the module: not the one of `operator!` or `operator!=`. */
static const char *module_end(const char *text)
{
	const char *mark = strchr(text, '!');
	static const char word[] = "operator";
	size_t length = sizeof word - 1;
	if (mark && (size_t)(mark - text) >= length && !memcmp(mark - length, word, length))
		return NULL;
	return mark;
}

static const char *spec_parse(const char *text, struct spec *spec)
{
	const char *mark = module_end(text), *offset = strstr(text, "+0x");
	*spec = (struct spec){.offset = 0};
	if (base_text_length(text) >= SPEC_MAX_BYTES)
		return "the name is longer than 1023 characters";
	if (!mark && offset) {
		if (!parse_offset(offset + 3, &spec->offset))
			return "after module+0x there must be hexadecimal digits only";
		if (offset == text)
			return "a module must stand before +0x";
		base_text_copy(spec->module, (size_t)(offset - text) + 1, text);
		spec->by_offset = true;
		return NULL;
	}
	if (mark) {
		if (mark == text)
			return "a module must stand before !";
		base_text_copy(spec->module, (size_t)(mark - text) + 1, text);
		text = mark + 1;
	}
	if (!*text)
		return "a function's name is missing";
	name_compile(&spec->name, text);
	return NULL;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static bool module_matches(const char *pattern, const char *path)
{
	char stem[256];
	const char *file = base_name(path), *suffix = strstr(file, ".so");
	if (!*pattern || base_glob_match(pattern, file) || base_glob_match(pattern, path))
		return true;
	if (!suffix || (suffix[3] && suffix[3] != '.') || (size_t)(suffix - file) >= sizeof stem)
		return false;
	base_text_copy(stem, (size_t)(suffix - file) + 1, file);
	return base_glob_match(pattern, stem);
}

static const char *program_path(void)
{
	static char path[4096];
	if (!*path) {
		ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
		path[length > 0 ? length : 0] = 0;
	}
	return path;
}

static bool seen_grow(struct seen *seen)
{
	struct seen bigger = {.capacity = seen->capacity ? seen->capacity * 2 : 4096};
	bigger.slots = base_map(bigger.capacity * sizeof *bigger.slots);
	if (!bigger.slots)
		return false;
	for (size_t i = 0; i < seen->capacity; i++) {
		if (!seen->slots[i])
			continue;
		size_t at = (seen->slots[i] * 0x9e3779b97f4a7c15u) >> 20 & (bigger.capacity - 1);
		while (bigger.slots[at])
			at = (at + 1) & (bigger.capacity - 1);
		bigger.slots[at] = seen->slots[i];
	}
	bigger.count = seen->count;
	if (seen->slots)
		munmap(seen->slots, seen->capacity * sizeof *seen->slots);
	*seen = bigger;
	return true;
}

/* True when the address is new. Without memory it is taken as seen: better none than the same one twice. */
static bool seen_add(struct seen *seen, uintptr_t address)
{
	if (seen->count * 2 >= seen->capacity && !seen_grow(seen))
		return false;
	size_t at = (address * 0x9e3779b97f4a7c15u) >> 20 & (seen->capacity - 1);
	for (; seen->slots[at]; at = (at + 1) & (seen->capacity - 1))
		if (seen->slots[at] == address)
			return false;
	seen->slots[at] = address;
	seen->count++;
	return true;
}

/* An IFUNC's implementation can lie in another module than its symbol: the function belongs to where its code is. */
static void report(struct finding *finding, const struct image *image, uintptr_t address, size_t size)
{
	struct image home = *image;
	if (!image_executable(image, address, 1) && (!image_of(address, &home) || !image_executable(&home, address, 1)))
		return;
	if (!seen_add(&finding->seen, address))
		return;
	struct mark_function function = {.address = address,
					 .size = size,
					 .module_base = home.base,
					 .module_path = home.main_program ? program_path() : home.name};
	finding->count++;
	finding->stopped = !finding->found(finding->context, &function);
}

static bool name_matches(struct finding *finding, const char *linkage)
{
	char readable[NAME_MAX_BYTES];
	const struct name_pattern *pattern = &finding->spec->name;
	if (finding->full_names)
		return name_may_contain(pattern, linkage) && demangle_full(linkage, readable, sizeof readable) &&
		       name_match_full(pattern, readable);
	if (name_match_linkage(pattern, linkage))
		return true;
	finding->candidates |= name_may_contain(pattern, linkage);
	return pattern->maybe_demangled && (!pattern->keyword[0] || strstr(linkage, pattern->keyword)) &&
	       demangle_path(linkage, readable, sizeof readable) && name_match_path(pattern, readable);
}

static bool (*only)(const struct image *image);

bool finder_resolves(void)
{
	return !only;
}

void finder_only(bool (*wanted)(const struct image *image))
{
	only = wanted;
}

static bool visit_symbol(void *context, const struct image *image, const char *linkage, const Elf64_Sym *symbol)
{
	struct finding *finding = context;
	unsigned type = ELF64_ST_TYPE(symbol->st_info);
	if (only && type == STT_GNU_IFUNC)
		return true;
	/* Untyped symbols are labels as often as functions: only their exact name names them. */
	if (type == STT_NOTYPE ? !base_text_equal(finding->spec->name.text, linkage) : !name_matches(finding, linkage))
		return true;
	/* An IFUNC's size is its resolver's, not the implementation's. */
	report(finding, image, image_symbol_address(image->base, symbol), type == STT_GNU_IFUNC ? 0 : symbol->st_size);
	return !finding->stopped;
}

/* Our own library interposes functions of the names that users type. (A test program links us in.) */
static bool is_passed_over(const struct image *image)
{
	uintptr_t here = (uintptr_t)&finder_each;
	return (here >= image->start && here < image->end && !image->main_program) || image_ignored(image) ||
	       (only && !only(image));
}

static bool visit_image(void *context, const struct image *image)
{
	struct finding *finding = context;
	if (is_passed_over(image))
		return true;
	/* ld.so can't be patched, and carries its own memcpy and malloc: only who names it means it. */
	if (!*finding->spec->module && image_is_linker(image))
		return true;
	if (!module_matches(finding->spec->module, image->main_program ? program_path() : image->name))
		return true;
	finding->module_matched = true;
	if (finding->spec->by_offset) {
		uintptr_t address = image->base + finding->spec->offset;
		if (image_executable(image, address, 1))
			report(finding, image, address, 0);
		else
			finding->offset_outside = true;
		return !finding->stopped;
	}
	struct symbols_visitor visitor = {visit_symbol, finding};
	return symbols_each(image, &visitor);
}

int finder_each(const char *spec, bool (*found)(void *context, const struct mark_function *function), void *context,
		const char **reason)
{
	struct spec parsed;
	const char *wrong = spec_parse(spec, &parsed);
	*reason = wrong;
	if (wrong)
		return -EINVAL;
	struct finding finding = {.spec = &parsed, .found = found, .context = context};
	image_each(visit_image, &finding);
	if (!finding.count && !parsed.by_offset && finding.candidates && parsed.name.maybe_templated) {
		finding.full_names = true;
		demangle_open(); /* before the walk: no module should be loaded in the middle of it */
		image_each(visit_image, &finding);
	}
	if (finding.seen.slots)
		munmap(finding.seen.slots, finding.seen.capacity * sizeof *finding.seen.slots);
	if (!finding.count)
		*reason = !finding.module_matched  ? "no module of this name is loaded"
			  : finding.offset_outside ? "the offset lies outside the module's code"
						   : NULL;
	return finding.count;
}

struct modules {
	bool (*visit)(void *context, const struct image *image, const char *path);
	void *context;
};

static bool visit_module(void *context, const struct image *image)
{
	const struct modules *modules = context;
	if (is_passed_over(image) || image_is_linker(image))
		return true;
	return modules->visit(modules->context, image, image->main_program ? program_path() : image->name);
}

void finder_modules(bool (*visit)(void *context, const struct image *image, const char *path), void *context)
{
	struct modules modules = {visit, context};
	image_each(visit_module, &modules);
}

struct exported {
	const char *const *names;
	size_t count;
	void (*found)(void *context, size_t name, const struct mark_function *function);
	void *context;
	size_t name;
};

static bool found_export(void *context, const struct mark_function *function)
{
	const struct exported *exported = context;
	exported->found(exported->context, exported->name, function);
	return true;
}

static bool visit_exports(void *context, const struct image *image)
{
	struct exported *exported = context;
	if (is_passed_over(image) || image_is_linker(image))
		return true;
	for (exported->name = 0; exported->name < exported->count; exported->name++) {
		const Elf64_Sym *symbol = image_lookup(image, exported->names[exported->name]);
		unsigned type = symbol ? ELF64_ST_TYPE(symbol->st_info) : STT_NOTYPE;
		if (type != STT_FUNC && (type != STT_GNU_IFUNC || only))
			continue;
		struct finding finding = {.found = found_export, .context = exported};
		report(&finding, image, image_symbol_address(image->base, symbol),
		       type == STT_GNU_IFUNC ? 0 : symbol->st_size);
		if (finding.seen.slots)
			munmap(finding.seen.slots, finding.seen.capacity * sizeof *finding.seen.slots);
	}
	return true;
}

void finder_exported(const char *const *names, size_t count,
		     void (*found)(void *context, size_t name, const struct mark_function *function), void *context)
{
	struct exported exported = {.names = names, .count = count, .found = found, .context = context};
	image_each(visit_exports, &exported);
}

bool mark_function_extent(uintptr_t *address, size_t *size)
{
	struct image image;
	return image_of(*address, &image) && extent_find(&image, *address, address, size);
}

uintptr_t mark_function_end(uintptr_t function, size_t size)
{
	uintptr_t start = function;
	if (!size && (!mark_function_extent(&start, &size) || start != function))
		return function;
	return function + size;
}
