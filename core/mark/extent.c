/*
 * .eh_frame_hdr's sorted table leads to the FDE of an address, whose range is the function's (Linux Standard Base,
 * "Exception Frame Header"). Encodings other than what every linker writes are taken as "unknown".
 */
#include "core/mark/extent.h"

#include <string.h>

#define ENCODING_TABLE 0x3b /* datarel | sdata4 */
#define ENCODING_OMIT 0xff

struct entry {
	int32_t location, fde; /* relative to the header's start */
};

static int32_t read_signed(const uint8_t *at)
{
	int32_t value;
	memcpy(&value, at, sizeof value);
	return value;
}

/* Bytes of a value in `encoding`, 0 when its length varies. */
static size_t encoded_bytes(uint8_t encoding)
{
	switch (encoding & 0x0f) {
	case 0x02:
	case 0x0a:
		return 2;
	case 0x03:
	case 0x0b:
		return 4;
	case 0x00:
	case 0x04:
	case 0x0c:
		return 8;
	}
	return 0;
}

static const uint8_t *skip_number(const uint8_t *at)
{
	while (*at++ & 0x80)
		;
	return at;
}

/* The pointer encoding that an FDE's CIE declares ('R' in its augmentation); ENCODING_OMIT when it can't be told. */
static uint8_t fde_encoding(const uint8_t *fde)
{
	const uint8_t *cie = fde + 4 - read_signed(fde + 4), *at = cie + 8;
	uint8_t version = *at++;
	const char *augmentation = (const char *)at;
	if (augmentation[0] != 'z')
		return augmentation[0] ? ENCODING_OMIT : 0;
	at += strlen(augmentation) + 1;
	at = skip_number(skip_number(at));
	at = version == 1 ? at + 1 : skip_number(at);
	at = skip_number(at);
	for (const char *c = augmentation + 1; *c; c++) {
		if (*c == 'R')
			return *at;
		if (*c == 'L') {
			at++;
		} else if (*c == 'P') {
			size_t bytes = encoded_bytes(*at);
			if (!bytes)
				return ENCODING_OMIT;
			at += 1 + bytes;
		} else if (*c != 'S' && *c != 'B') {
			return ENCODING_OMIT;
		}
	}
	return 0;
}

bool extent_find(const struct image *image, uintptr_t address, uintptr_t *start, size_t *size)
{
	const uint8_t *header = NULL;
	for (size_t i = 0; i < image->phdr_count; i++)
		if (image->phdr[i].p_type == PT_GNU_EH_FRAME)
			header = (const uint8_t *)(image->base + image->phdr[i].p_vaddr);
	/* version 1, eh_frame_ptr in 4 bytes, count in 4 bytes, the table as above */
	if (!header || header[0] != 1 || encoded_bytes(header[1]) != 4 || (header[2] & 0x0f) != 0x03 ||
	    header[3] != ENCODING_TABLE)
		return false;
	const struct entry *table = (const struct entry *)(header + 12);
	size_t count = (uint32_t)read_signed(header + 8), low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if ((uintptr_t)header + (uintptr_t)(intptr_t)table[middle].location <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return false;
	uintptr_t location = (uintptr_t)header + (uintptr_t)(intptr_t)table[low - 1].location;
	const uint8_t *fde = header + table[low - 1].fde;
	uint8_t encoding = fde_encoding(fde);
	uint64_t range = 0;
	if (encoded_bytes(encoding) == 4)
		range = (uint32_t)read_signed(fde + 12);
	else if (encoded_bytes(encoding) == 8)
		memcpy(&range, fde + 16, sizeof range);
	*start = location;
	*size = range;
	return range && address < location + range;
}
