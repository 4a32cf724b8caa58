/*
 * Reads a module where it lies mapped: its data by words, its constants by bytes, both only inside its segments. No
 * allocation, a few hundred bytes of stack whatever the module's size.
 */
#define _GNU_SOURCE
#include "core/mark/tokio.h"

#include <assert.h>
#include <string.h>

#include "core/base.h"
#include "core/mark/extent.h"

enum {
	SLOT_POLL,
	SLOT_SCHEDULE,
	SLOT_DEALLOC,
	SLOT_READ_OUTPUT,
	SLOT_DROP_JOIN_HANDLE,
	SLOT_DROP_ABORT_HANDLE,
	SLOT_SHUTDOWN,
	SLOT_TRAILER, /* functions end here, offsets begin */
	SLOT_SCHEDULER,
	SLOT_ID,
	SLOT_COUNT,
};

#define WORD sizeof(uintptr_t)
#define HEADER_BYTES 0x20u /* state, next in queue, table, owner */
#define SCHEDULER_MAX 0x100u /* the header's end, aligned for the future */
#define SCHEDULER_BYTES_MAX 0x80u
#define TASK_BYTES_MAX (16u << 20)

struct words {
	const struct image *image;
	const Elf64_Rela *next, *end; /* relocations still to come, by address; none where all is done */
};

static bool is_relative(const Elf64_Rela *entry)
{
	fa_assert(entry);
	return ELF64_R_TYPE(entry->r_info) == R_X86_64_RELATIVE;
}

static struct words words_of(const struct image *image)
{
	struct words words = {.image = image};
	uintptr_t table = 0;
	size_t bytes = 0;
	for (size_t i = 0; i < image->phdr_count; i++) {
		if (image->phdr[i].p_type != PT_DYNAMIC)
			continue;
		for (const Elf64_Dyn *d = (const Elf64_Dyn *)(image->base + image->phdr[i].p_vaddr);
		     d->d_tag != DT_NULL; d++)
			if (d->d_tag == DT_RELA)
				table = d->d_un.d_ptr < image->base ? d->d_un.d_ptr + image->base : d->d_un.d_ptr;
			else if (d->d_tag == DT_RELASZ)
				bytes = d->d_un.d_val;
	}
	const Elf64_Rela *first = (const Elf64_Rela *)table;
	if (table < image->start || table >= image->end || bytes > image->end - table || bytes < sizeof *first ||
	    !is_relative(first))
		return words;
	/* ld.so is done with all of them or with none. */
	uintptr_t value;
	if (first->r_offset > image->end - image->base - WORD)
		return words;
	memcpy(&value, (const void *)(image->base + first->r_offset), WORD);
	if (value == image->base + (uintptr_t)first->r_addend)
		return words;
	words.next = first;
	words.end = first + bytes / sizeof *first;
	return words;
}

/* Addresses must come in ascending order; linkers sort these relocations so. */
static uintptr_t word_at(struct words *words, uintptr_t address)
{
	uintptr_t offset = address - words->image->base;
	while (words->next < words->end && is_relative(words->next) && words->next->r_offset < offset)
		words->next++;
	if (words->next < words->end && is_relative(words->next) && words->next->r_offset == offset)
		return words->image->base + (uintptr_t)words->next->r_addend;
	return *(const uintptr_t *)address;
}

static bool is_offset(uintptr_t value, uintptr_t least, uintptr_t most)
{
	return value >= least && value <= most && value % WORD == 0;
}

static bool has_offsets(const uintptr_t *word)
{
	return is_offset(word[SLOT_SCHEDULER], HEADER_BYTES, SCHEDULER_MAX) &&
	       is_offset(word[SLOT_ID], word[SLOT_SCHEDULER], word[SLOT_SCHEDULER] + SCHEDULER_BYTES_MAX) &&
	       is_offset(word[SLOT_TRAILER], word[SLOT_ID] + 2 * WORD, TASK_BYTES_MAX);
}

/* What these four do differs, so no linker has made one of two. */
static bool has_own_functions(const uintptr_t *word)
{
	return word[SLOT_POLL] != word[SLOT_SCHEDULE] && word[SLOT_POLL] != word[SLOT_DEALLOC] &&
	       word[SLOT_POLL] != word[SLOT_SHUTDOWN] && word[SLOT_SCHEDULE] != word[SLOT_DEALLOC] &&
	       word[SLOT_SCHEDULE] != word[SLOT_SHUTDOWN] && word[SLOT_DEALLOC] != word[SLOT_SHUTDOWN];
}

static bool is_function(const struct image *image, uintptr_t address)
{
	uintptr_t start;
	size_t bytes;
	return image_executable(image, address, 1) &&
	       (!extent_find(image, address, &start, &bytes) || start == address);
}

static bool is_table(const struct image *image, const uintptr_t *word)
{
	if (!has_offsets(word) || !has_own_functions(word))
		return false;
	for (size_t i = 0; i < SLOT_TRAILER; i++)
		if (!is_function(image, word[i]))
			return false;
	return true;
}

struct visitor {
	bool (*found)(void *context, const struct tokio_table *table);
	void *context;
	uint32_t count;
	bool stopped;
};

/* The words read last, the newest at `count` - 1: a table is told by its end, which few words look like. */
struct window {
	uintptr_t word[16];
	size_t count;
};
static_assert(SLOT_COUNT <= 16, "a table fits");

static uintptr_t back(const struct window *window, size_t words)
{
	return window->word[(window->count - words) % 16];
}

static bool window_holds_table(const struct window *window, const struct image *image, uintptr_t *word)
{
	uintptr_t scheduler = back(window, SLOT_COUNT - SLOT_SCHEDULER);
	if (scheduler < HEADER_BYTES || scheduler > SCHEDULER_MAX || window->count < SLOT_COUNT)
		return false;
	for (size_t i = 0; i < SLOT_COUNT; i++)
		word[i] = back(window, SLOT_COUNT - i);
	return is_table(image, word);
}

static void scan(const struct image *image, uintptr_t at, uintptr_t end, struct visitor *visitor)
{
	struct words words = words_of(image);
	struct window window = {.count = 0};
	uintptr_t word[SLOT_COUNT];
	for (at = round_up(at, WORD); at + WORD <= end && !visitor->stopped; at += WORD) {
		window.word[window.count++ % 16] = word_at(&words, at);
		if (!window_holds_table(&window, image, word))
			continue;
		struct tokio_table table = {.poll = word[SLOT_POLL],
					    .schedule = word[SLOT_SCHEDULE],
					    .dealloc = word[SLOT_DEALLOC],
					    .slot = at - (SLOT_COUNT - 1) * WORD};
		visitor->count++;
		visitor->stopped = !visitor->found(visitor->context, &table);
	}
}

/* How much of [start, end) is mapped from `start` on. */
static uintptr_t mapped_until(const struct image *image, uintptr_t start, uintptr_t end)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t from = image->base + header->p_vaddr;
		if (header->p_type == PT_LOAD && header->p_flags & PF_R && start >= from &&
		    start < from + header->p_memsz)
			return end < from + header->p_memsz ? end : from + header->p_memsz;
	}
	return start;
}

uint32_t tokio_tables(const struct image *image, bool (*found)(void *context, const struct tokio_table *table),
		      void *context)
{
	struct visitor visitor = {.found = found, .context = context};
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t start = image->base + header->p_vaddr;
		if (header->p_type == PT_GNU_RELRO)
			scan(image, start, mapped_until(image, start, start + header->p_memsz), &visitor);
	}
	return visitor.count;
}

struct text {
	const char *at, *end;
};

static bool begins_with(const char *at, const char *end, const char *word)
{
	size_t bytes = strlen(word);
	return (size_t)(end - at) >= bytes && !memcmp(at, word, bytes);
}

/* `tokio` is followed by its version and by the runtime's folder: as cargo names the folder of a crate. */
static bool has_version(const char *at, const char *end, char version[TOKIO_VERSION_BYTES])
{
	if (!begins_with(at, end, "-"))
		return false;
	const char *first = ++at;
	while (at < end && ((*at >= '0' && *at <= '9') || *at == '.'))
		at++;
	size_t bytes = (size_t)(at - first);
	if (!bytes || bytes >= TOKIO_VERSION_BYTES || *first == '.' || !begins_with(at, end, "/src/runtime/"))
		return false;
	memcpy(version, first, bytes);
	version[bytes] = 0;
	return true;
}

/* True when nothing better can come. */
static bool look_for_name(struct text text, char version[TOKIO_VERSION_BYTES], bool *seen)
{
	static const char name[] = "tokio";
	const char *begin = text.at;
	while ((text.at = memmem(text.at, (size_t)(text.end - text.at), name, sizeof name - 1))) {
		bool folder = text.at > begin && text.at[-1] == '/';
		text.at += sizeof name - 1;
		if (has_version(text.at, text.end, version)) {
			*seen = true;
			return true;
		}
		*seen |= begins_with(text.at, text.end, "-runtime-w") ||
			 (folder && begins_with(text.at, text.end, "/src/runtime/"));
	}
	return false;
}

/* Its messages name it too, in a program that was built without the places of panics. */
static bool has_message(struct text text)
{
	static const char message[] = "Tokio 1.x ";
	return memmem(text.at, (size_t)(text.end - text.at), message, sizeof message - 1) != NULL;
}

/* Constants lie in segments of their own, or with the code where a linker makes one segment of both. */
static bool is_constant(const struct image *image, const Elf64_Phdr *header)
{
	bool own = false;
	for (size_t i = 0; i < image->phdr_count; i++)
		own |= image->phdr[i].p_type == PT_LOAD && !(image->phdr[i].p_flags & (PF_W | PF_X));
	return header->p_type == PT_LOAD && header->p_flags & PF_R && !(header->p_flags & PF_W) &&
	       !(own && header->p_flags & PF_X);
}

bool tokio_seen(const struct image *image, char version[TOKIO_VERSION_BYTES])
{
	bool seen = false;
	version[0] = 0;
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		if (!is_constant(image, header))
			continue;
		const char *start = (const char *)(image->base + header->p_vaddr);
		struct text text = {start, start + header->p_filesz};
		if (look_for_name(text, version, &seen))
			return true;
		seen = seen || has_message(text);
	}
	return seen;
}

struct finding {
	bool (*found)(void *context, const struct mark_function *function);
	void *context;
	const struct image *image;
	const char *path;
	const struct tokio_table *table; /* being asked about */
	bool known;
	int count;
	bool stopped, unknown;
};

static char told[160];

static void tell(const char *path, const char *version)
{
	size_t at =
		base_text_copy(told, sizeof told, version[0] ? "Tokio " : "Tokio of a version that it does not tell");
	at += base_text_copy(told + at, sizeof told - at, version);
	at += base_text_copy(told + at, sizeof told - at, " in ");
	at += base_text_copy(told + at, sizeof told - at, base_file_name(path));
	base_text_copy(told + at, sizeof told - at, ": unknown layout, or no tasks: no table of one was found");
}

static bool came_before(void *context, const struct tokio_table *table)
{
	struct finding *finding = context;
	if (table->slot >= finding->table->slot)
		return false;
	finding->known = table->poll == finding->table->poll;
	return !finding->known;
}

static bool take_table(void *context, const struct tokio_table *table)
{
	struct finding *finding = context;
	finding->table = table;
	finding->known = false;
	tokio_tables(finding->image, came_before, finding);
	if (finding->known)
		return true;
	struct mark_function function = {
		.address = table->poll, .module_base = finding->image->base, .module_path = finding->path};
	finding->count++;
	finding->stopped = !finding->found(finding->context, &function);
	return !finding->stopped;
}

static bool any_table(void *context, const struct tokio_table *table)
{
	(void)context, (void)table;
	return false;
}

static bool visit(void *context, const struct image *image, const char *path)
{
	struct finding *finding = context;
	char version[TOKIO_VERSION_BYTES];
	if (!tokio_seen(image, version))
		return true;
	finding->image = image;
	finding->path = path;
	if (tokio_tables(image, any_table, NULL)) {
		tokio_tables(image, take_table, finding);
	} else {
		finding->unknown = true;
		tell(path, version);
	}
	return !finding->stopped;
}

int tokio_each(bool (*found)(void *context, const struct mark_function *function), void *context, const char **reason)
{
	struct finding finding = {.found = found, .context = context};
	finder_modules(visit, &finding);
	*reason = finding.unknown ? told : NULL;
	return finding.count;
}

struct slots {
	uintptr_t poll;
	void (*visit)(void *context, uintptr_t slot);
	void *context;
};

static bool take_slot(void *context, const struct tokio_table *table)
{
	const struct slots *slots = context;
	if (table->poll == slots->poll)
		slots->visit(slots->context, table->slot);
	return true;
}

void tokio_slots(uintptr_t poll, void (*visit_slot)(void *context, uintptr_t slot), void *context)
{
	struct slots slots = {poll, visit_slot, context};
	struct image image;
	if (image_of(poll, &image))
		tokio_tables(&image, take_slot, &slots);
}
