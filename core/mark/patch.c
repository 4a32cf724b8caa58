/*
 * Patching function entries: the first five bytes become a jump to a stub near by, which calls the callbacks and goes
 * on with the instructions that stood there. bind.c calls this from the constructor, while one thread runs. All checks
 * and all preparation come first; the jump is the last thing written, so a refused function is untouched.
 */
#include <errno.h>
#include <string.h>

#include "core/base.h"
#include "core/mark/arguments.h"
#include "core/mark/decode.h"
#include "core/mark/extent.h"
#include "core/mark/image.h"
#include "core/mark/mark.h"
#include "core/mark/near.h"
#include "core/mark/patch_relocate.h"
#include "core/mark/patch_scan.h"
#include "core/mark/patch_stub.h"
#include "core/mark/refuse.h"
#include "core/path/cfi.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define BUCKET_BITS 12
#define ENDBR_BYTES 4

struct patched {
	struct patched *next, *next_in_bucket;
	struct patch_record record;
	uintptr_t jump_at;
	size_t displaced_bytes, original_bytes; /* in the function, padding included; in the stub */
};

static struct patched *all_patched, *buckets[1 << BUCKET_BITS];
static bool ready;
static bool (*fresh)(uintptr_t address);

/* Records live as long as the process: code that refers to them may be on any stack. */
static void *keep(size_t bytes)
{
	static uint8_t *at, *end;
	bytes = round_up(bytes, 16);
	if ((size_t)(end - at) < bytes) {
		void *chunk = base_map(CHUNK_BYTES);
		if (!chunk)
			return NULL;
		at = chunk;
		end = at + CHUNK_BYTES;
	}
	at += bytes;
	return at - bytes;
}

int patch_init(void)
{
	int error = decode_init();
	if (!error)
		error = cfi_init();
	if (!error) {
		stub_use(stub_pick());
		ready = true;
	}
	return error;
}

static struct patched **bucket_of(uintptr_t address)
{
	return &buckets[address * 0x9e3779b97f4a7c15u >> (64 - BUCKET_BITS)];
}

static struct patched *patched_find(uintptr_t address)
{
	struct patched *patched = *bucket_of(address);
	while (patched && patched->record.address != address)
		patched = patched->next_in_bucket;
	return patched;
}

static size_t displaced_at(uintptr_t address)
{
	for (size_t skipped = 0; skipped <= ENDBR_BYTES; skipped += ENDBR_BYTES) {
		const struct patched *patched = patched_find(address - skipped);
		if (patched && patched->jump_at == address)
			return patched->displaced_bytes;
	}
	return 0;
}

static void each_moved(uintptr_t start, uintptr_t end, void (*visit)(void *context, const uint8_t *code, size_t bytes),
		       void *context)
{
	for (const struct patched *patched = all_patched; patched; patched = patched->next)
		if (patched->record.address >= start && patched->record.address < end)
			visit(context, (const uint8_t *)patched->record.original, patched->original_bytes);
}

static const struct scan_patches patches = {displaced_at, each_moved};

static size_t readable_from(const struct image *image, uintptr_t address)
{
	for (size_t i = 0; i < image->phdr_count; i++) {
		const Elf64_Phdr *header = &image->phdr[i];
		uintptr_t start = image->base + header->p_vaddr;
		if (header->p_type == PT_LOAD && address >= start && address < start + header->p_memsz)
			return start + header->p_memsz - address;
	}
	return 0;
}

static const char *measure(const struct image *image, const struct mark_function *function, struct displaced *displaced)
{
	uintptr_t start = function->address;
	size_t size = function->size;
	if (!size && extent_find(image, function->address, &start, &size) && start != function->address) {
		/* An address inside a function: what stands there may run in the middle of anything. */
		return "the address is not the start of a function";
	}
	const char *reason =
		displaced_measure(function->address, size, readable_from(image, function->address), displaced);
	if (!reason && scan_tables(image, function->address, function->address + size, displaced))
		reason = "a table of its own leads to its first bytes";
	if (!reason && scan_entry_inside(image, displaced))
		reason = "another symbol lies inside its first bytes";
	if (!reason && scan_jumped_into(image, displaced, &patches))
		reason = "another function jumps into its first bytes";
	return reason;
}

static uint32_t distance(const void *from, const void *to)
{
	return (uint32_t)((uintptr_t)to - (uintptr_t)from);
}

/* Assembles the stub in `bytes` as it will stand at `at`. */
static void stub_assemble(struct patch_stub *stub, const struct patch_stub *at, const struct patch_record *record)
{
	static const uint8_t entry[sizeof stub->entry] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0x15, 0,
							  0,    0,    0,    0x5d, 0xff, 0x25};
	static const uint8_t around[sizeof stub->around] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0x35, 0,    0,    0,    0,
							    0xff, 0x15, 0,    0,    0,    0,    0xc9, 0xc3, 0xc9, 0xe9};
	stub->common = (uintptr_t)mark_entry;
	stub->around_common = (uintptr_t)mark_around;
	stub->record = (uintptr_t)record;
	stub->next = (uintptr_t)at->original;
	memcpy(stub->entry, entry, sizeof entry);
	memcpy(stub->around, around, sizeof around);
	memset(stub->entry_pad, 0xcc, sizeof stub->entry_pad);
	memset(stub->around_pad, 0xcc, sizeof stub->around_pad);
	uint32_t to_common = distance(at->entry + 10, &at->common), to_next = distance(at->entry + 17, &at->next);
	uint32_t to_record = distance(at->around + 10, &at->record),
		 to_around = distance(at->around + 16, &at->around_common),
		 to_original = distance(at->around + 24, &at->original);
	memcpy(stub->entry + 6, &to_common, 4);
	memcpy(stub->entry + 13, &to_next, 4);
	memcpy(stub->around + 6, &to_record, 4);
	memcpy(stub->around + 12, &to_around, 4);
	memcpy(stub->around + 20, &to_original, 4);
}

static const char *stub_build(const struct image *image, struct patched *patched, const struct displaced *displaced)
{
	union {
		struct patch_stub stub;
		uint8_t bytes[sizeof(struct patch_stub) + RELOCATED_MAX_BYTES];
	} code;
	size_t length = 0, limit = sizeof code;
	struct patch_stub *at = near_reserve(image->start, image->end, limit);
	if (!at)
		return "no executable memory can be had near the function";
	const char *reason = displaced_relocate(displaced, (uintptr_t)at->original, code.stub.original, &length);
	near_shrink(at, limit, reason ? 0 : sizeof(struct patch_stub) + length);
	if (reason)
		return reason;
	stub_assemble(&code.stub, at, &patched->record);
	if (near_write(at, code.bytes, sizeof(struct patch_stub) + length))
		return "policy forbids writing code";
	patched->record.stub = at;
	patched->record.original = (uintptr_t)at->original;
	patched->original_bytes = length;
	return NULL;
}

static const char *write_jump(const struct patched *patched, const void *to)
{
	uint8_t jump[PATCH_JUMP_BYTES] = {0xe9};
	uint32_t reach = distance((const void *)(patched->jump_at + sizeof jump), to);
	memcpy(jump + 1, &reach, sizeof reach);
	return near_write((void *)patched->jump_at, jump, sizeof jump) ? "policy forbids writing code" : NULL;
}

/* Everything for a function's first patch but the jump. */
static const char *prepare(const struct mark_function *function, bool around, struct patched **out)
{
	struct image image;
	struct displaced displaced;
	if (!image_of(function->address, &image) || !image_executable(&image, function->address, 1))
		return "not code of a loaded module";
	const char *reason = refuse_function(&image, function->address);
	if (!reason)
		reason = measure(&image, function, &displaced);
	if (reason)
		return reason;
	struct patched *patched = keep(sizeof *patched);
	if (!patched)
		return "out of memory";
	*patched = (struct patched){.jump_at = displaced.start,
				    .displaced_bytes = displaced_end(&displaced) - displaced.start};
	patched->record.address = function->address;
	/* The code is asked as long as it is whole; who patches the entry first does without. */
	patched->record.no_stack_arguments = around && !arguments_on_stack(function->address);
	reason = stub_build(&image, patched, &displaced);
	*out = patched;
	return reason;
}

static void callback_add(struct patch_callback **first, struct patch_callback *callback)
{
	struct patch_callback *last = *first;
	while (last && last->next)
		last = last->next;
	callback->previous = last;
	*(last ? &last->next : first) = callback;
}

static void callback_remove(struct patch_callback **first, struct patch_callback *callback)
{
	*(callback->previous ? &callback->previous->next : first) = callback->next;
}

/* Leads the entry to what must run there now: entry callbacks first, then the around part, then the original. */
static const char *connect(struct patched *patched)
{
	struct patch_stub *stub = patched->record.stub;
	uintptr_t next = patched->record.around ? (uintptr_t)stub->around : patched->record.original;
	if (stub->next != next && near_write(&stub->next, &next, sizeof next))
		return "policy forbids writing code";
	return write_jump(patched, patched->record.entry ? stub->entry : stub->around);
}

static const char *patch(const struct mark_function *function, struct patch_callback made)
{
	if (!ready)
		return "no disassembler (Zydis)";
	const char *reason = fresh && fresh(function->address) ? NULL : refuse_now();
	struct patched *patched = patched_find(function->address);
	bool first = !patched;
	if (!reason && first)
		reason = prepare(function, made.on_leave != NULL, &patched);
	if (reason)
		return reason;
	struct patch_callback *callback = keep(sizeof *callback);
	if (!callback)
		return "out of memory";
	*callback = made;
	struct patch_callback **list = made.on_leave ? &patched->record.around : &patched->record.entry;
	callback_add(list, callback);
	reason = connect(patched);
	if (reason) {
		callback_remove(list, callback);
		return reason;
	}
	if (made.on_leave)
		patched->record.around_last = callback;
	if (first) {
		patched->next = all_patched;
		all_patched = patched;
		patched->next_in_bucket = *bucket_of(function->address);
		*bucket_of(function->address) = patched;
	}
	return NULL;
}

void patch_fresh(bool (*is_fresh)(uintptr_t address))
{
	fresh = is_fresh;
}

void patch_forget(uintptr_t start, uintptr_t end)
{
	for (struct patched **link = &all_patched; *link;) {
		struct patched *patched = *link, **place = bucket_of(patched->record.address);
		if (patched->record.address < start || patched->record.address >= end) {
			link = &patched->next;
			continue;
		}
		while (*place != patched)
			place = &(*place)->next_in_bucket;
		*place = patched->next_in_bucket;
		*link = patched->next;
	}
}

/* An empty function: endbr64 or not, ret, and padding up to where the jump ends. */
static bool is_empty(const uint8_t *code, size_t *before)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	*before = memcmp(code, endbr64, sizeof endbr64) ? 0 : sizeof endbr64;
	code += *before;
	if ((uintptr_t)code & 15 && (16 - ((uintptr_t)code & 15)) < PATCH_JUMP_BYTES)
		return false;
	for (size_t i = 1; i < PATCH_JUMP_BYTES; i++) /* bytes of nops as assemblers write them */
		if (code[i] != 0x66 && code[i] != 0x2e && code[i] != 0x0f && code[i] != 0x1f && code[i] != 0x84 &&
		    code[i] != 0x80 && code[i] != 0x40 && code[i] != 0x44 && code[i] != 0x00 && code[i] != 0x90 &&
		    code[i] != 0xcc)
			return false;
	return code[0] == 0xc3;
}

static bool take_linker(void *context, const struct image *image)
{
	if (!image_is_linker(image))
		return true;
	*(struct image *)context = *image;
	return false;
}

const char *patch_loader_event(void (*on_change)(void *context, const uintptr_t *fp))
{
	static struct patched patched;
	static struct patch_callback callback;
	static const uint8_t ret = 0xc3;
	union {
		struct patch_stub stub;
		uint8_t bytes[sizeof(struct patch_stub) + 1];
	} code;
	struct image linker = {.base = 0};
	size_t before;
	if (!stub_used())
		stub_use(stub_pick());
	image_each(take_linker, &linker);
	const Elf64_Sym *symbol = linker.symbols ? image_lookup(&linker, "_dl_debug_state") : NULL;
	uintptr_t address = symbol ? image_symbol_address(linker.base, symbol) : 0;
	if (!address || !image_executable(&linker, address, 16) || !is_empty((const uint8_t *)address, &before))
		return "ld.so has no such function";
	struct patch_stub *at = near_reserve(linker.start, linker.end, sizeof code);
	if (!at)
		return "no executable memory can be had near ld.so";
	callback = (struct patch_callback){.on_entry = on_change};
	patched = (struct patched){.jump_at = address + before, .displaced_bytes = PATCH_JUMP_BYTES};
	patched.record = (struct patch_record){
		.address = address, .entry = &callback, .original = (uintptr_t)at->original, .stub = at};
	stub_assemble(&code.stub, at, &patched.record);
	memcpy(code.stub.original, &ret, 1);
	if (near_write(at, code.bytes, sizeof(struct patch_stub) + 1))
		return "policy forbids writing code";
	return write_jump(&patched, at->entry);
}

static int report(const char *refused, const char **reason)
{
	*reason = refused;
	return refused ? -ENOTSUP : 0;
}

int patch_entry(const struct mark_function *function, void (*on_entry)(void *context, const uintptr_t *fp),
		void *context, const char **reason)
{
	struct patch_callback callback = {.on_entry = on_entry, .context = context};
	return report(patch(function, callback), reason);
}

int patch_around(const struct mark_function *function,
		 bool (*on_enter)(void *context, const uintptr_t *fp, bool returns),
		 void (*on_leave)(void *context, const uintptr_t *fp), void *context, bool register_arguments,
		 const char **reason)
{
	struct patch_callback callback = {.on_enter = on_enter, .context = context, .on_leave = on_leave};
	const char *refused = refuse_frame(function->address);
	if (!refused)
		refused = patch(function, callback);
	if (!refused) {
		struct patched *patched = patched_find(function->address);
		patched->record.no_stack_arguments |= register_arguments;
	}
	return report(refused, reason);
}

void patch_release(void)
{
	scan_release();
}
