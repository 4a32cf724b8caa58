/* Reading .eh_frame and .eh_frame_hdr as they are mapped. */
#define _GNU_SOURCE
#include "core/path/eh_frame.h"

#include <string.h>

/* The only return address column of x86-64. */
enum { REG_RA = 16 };

struct bytes bytes_after_uleb(struct bytes in, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = (uint8_t)bytes_take(&in, 1);
		if (shift < 64)
			*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return in;
	}
}

struct bytes bytes_after_sleb(struct bytes in, int64_t *value)
{
	uint64_t bits = 0;
	unsigned shift = 0;
	uint8_t byte;
	do {
		byte = (uint8_t)bytes_take(&in, 1);
		if (shift < 64)
			bits |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && byte & 0x40)
		bits |= ~(uint64_t)0 << shift;
	*value = (int64_t)bits;
	return in;
}

/* A pointer in one of the DW_EH_PE encodings that code addresses use. */
uint64_t bytes_take_encoded(struct bytes *in, uint8_t encoding, bool is_length)
{
	uintptr_t here = (uintptr_t)in->at;
	uint64_t value;
	switch (encoding & 0x0f) {
	case 0x00:
	case 0x04:
	case 0x0c:
		value = bytes_take(in, 8);
		break;
	case 0x03:
		value = bytes_take(in, 4);
		break;
	case 0x0b:
		value = (uint64_t)(int64_t)(int32_t)bytes_take(in, 4);
		break;
	default:
		in->bad = true;
		return 0;
	}
	if (is_length)
		return value;
	switch (encoding & 0xf0) {
	case 0x00:
		return value;
	case 0x10:
		return value + here;
	default:
		in->bad = true;
		return 0;
	}
}

/* The body of the record at `at`; its first word is the CIE pointer (0 in a CIE). */
static struct bytes record(const uint8_t *at, const struct path_module *module)
{
	struct bytes in = {.at = at, .end = (const uint8_t *)module->end};
	if ((uintptr_t)at < module->start || (uintptr_t)at >= module->end) {
		in.bad = true;
		in.at = in.end;
		return in;
	}
	uint64_t length = bytes_take(&in, 4);
	if (length == 0xffffffff || !length || length > (uint64_t)(in.end - in.at))
		in.bad = true; /* 64-bit records: no linker writes them in .eh_frame */
	else
		in.end = in.at + length;
	return in;
}

static bool cie_read(const uint8_t *at, const struct path_module *module, struct frame_info *info, uint8_t *encoding,
		     bool *augmented)
{
	struct bytes in = record(at, module);
	uint64_t id = bytes_take(&in, 4), version = bytes_take(&in, 1);
	const char *augmentation = (const char *)in.at;
	while (bytes_take(&in, 1))
		;
	if (in.bad || id || (version != 1 && version != 3))
		return false;
	info->code_align = bytes_take_uleb(&in);
	info->data_align = bytes_take_sleb(&in);
	uint64_t return_register = version == 1 ? bytes_take(&in, 1) : bytes_take_uleb(&in);
	*encoding = 0;
	*augmented = *augmentation == 'z';
	if (*augmented) {
		uint64_t length = bytes_take_uleb(&in);
		const uint8_t *after = in.at + length;
		if (length > (uint64_t)(in.end - in.at))
			return false;
		for (const char *letter = augmentation + 1; *letter; letter++) {
			if (*letter == 'R') {
				*encoding = (uint8_t)bytes_take(&in, 1);
			} else if (*letter == 'P') {
				uint8_t personality = (uint8_t)bytes_take(&in, 1);
				bytes_take_encoded(&in, personality & 0x0f, true);
			} else if (*letter == 'L') {
				bytes_take(&in, 1);
			} else if (*letter == 'S') {
				info->signal = true;
			} else {
				break;
			}
		}
		in.at = after;
	} else if (*augmentation) {
		return false;
	}
	info->initial = in;
	return !in.bad && return_register == REG_RA;
}

bool eh_frame_read(const uint8_t *at, const struct path_module *module, struct frame_info *info)
{
	struct bytes in = record(at, module);
	const uint8_t *pointer_at = in.at;
	uint64_t back = bytes_take(&in, 4);
	uint8_t encoding;
	bool augmented;
	if (in.bad || !back || !cie_read(pointer_at - back, module, info, &encoding, &augmented))
		return false;
	info->start = bytes_take_encoded(&in, encoding, false);
	info->end = info->start + bytes_take_encoded(&in, encoding, true);
	if (augmented)
		bytes_skip(&in, bytes_take_uleb(&in));
	info->program = in;
	return !in.bad;
}

const uint8_t *eh_frame_find(const struct module_unwind *unwind, uintptr_t pc)
{
	int64_t wanted = (int64_t)(pc - (uintptr_t)unwind->header);
	size_t low = 0, high = unwind->entries;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (unwind->table[middle * 2] <= wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? unwind->header + unwind->table[(low - 1) * 2 + 1] : NULL;
}
