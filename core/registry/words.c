/*
 * Messages, choices, numbers and suggestions for options.c and policy.c. Runs in the target before libc is ready: no
 * allocation, no stdio, no locale, no errno.
 */
#include "core/registry/words.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

void words_add(char *line, size_t line_bytes, const char *text)
{
	size_t at = strlen(line);
	for (; *text && at + 1 < line_bytes; text++)
		line[at++] = (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text;
	line[at] = 0;
}

void words_add_number(char *line, size_t line_bytes, uint64_t number)
{
	char digits[21], *at = digits + sizeof digits - 1;
	*at = 0;
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	words_add(line, line_bytes, at);
}

void words_add_size(char *line, size_t line_bytes, uint64_t bytes)
{
	static const char *const suffix[] = {"", "K", "M", "G", "T"};
	unsigned power = 0;
	while (bytes && bytes % 1024 == 0 && power + 1 < sizeof suffix / sizeof suffix[0]) {
		bytes /= 1024;
		power++;
	}
	words_add_number(line, line_bytes, bytes);
	words_add(line, line_bytes, suffix[power]);
}

void words_add_quoted(char *line, size_t line_bytes, const char *text)
{
	char shown[81];
	size_t bytes = strnlen(text, sizeof shown - 1);
	memcpy(shown, text, bytes);
	shown[bytes] = 0;
	words_add(line, line_bytes, "'");
	words_add(line, line_bytes, shown);
	words_add(line, line_bytes, text[bytes] ? "...'" : "'");
}

int words_choice(const char *choices, const char *word)
{
	size_t length = strlen(word);
	for (int index = 0;; index++) {
		size_t bytes = strcspn(choices, "|");
		if (bytes == length && memcmp(choices, word, bytes) == 0)
			return index;
		if (!choices[bytes])
			return -1;
		choices += bytes + 1;
	}
}

size_t words_distance(const char *a, const char *b)
{
	size_t row[WORDS_KEY_BYTES];
	size_t columns = strlen(b);
	if (columns >= WORDS_KEY_BYTES || strlen(a) >= WORDS_KEY_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= columns; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < columns; j++) {
			size_t best = diagonal + (a[i] != b[j]);
			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			row[j + 1] = best;
		}
	}
	return row[columns];
}

/* A suggestion is at most two letters away, and less than half of the word. */
void words_nearest_try(struct words_nearest *nearest, const char *word, const char *candidate)
{
	size_t distance = words_distance(word, candidate);
	if (distance < 3 && distance < strlen(candidate) / 2 + 1 && (!nearest->word || distance < nearest->distance)) {
		nearest->word = candidate;
		nearest->distance = distance;
	}
}

/* Multiplier of a number's suffix, 0 when it has none that fits the unit. */
static uint64_t suffix_factor(const char *suffix, const char *unit)
{
	if (!suffix[0])
		return 1;
	if (unit[0] == 'm')
		return strcmp(suffix, "ms") == 0 ? 1 : strcmp(suffix, "s") == 0 ? 1000 : 0;
	if (unit[0] == '%')
		return strcmp(suffix, "%") == 0;
	if (unit[0] == 'B' && strcmp(suffix, "B") == 0)
		return 1;
	uint64_t factor = 0;
	switch (suffix[0]) {
	case 'k':
	case 'K':
		factor = 1ull << 10;
		break;
	case 'm':
	case 'M':
		factor = 1ull << 20;
		break;
	case 'g':
	case 'G':
		factor = 1ull << 30;
		break;
	case 'T':
		factor = 1ull << 40;
		break;
	}
	bool end = !suffix[1] || (unit[0] == 'B' && (strcmp(suffix + 1, "B") == 0 || strcmp(suffix + 1, "iB") == 0));
	return end ? factor : 0;
}

int words_number(const char *text, const char *unit, uint64_t *number)
{
	uint64_t value = 0;
	bool overflow = false;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++)
		overflow |= __builtin_mul_overflow(value, 10u, &value) ||
			    __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
	uint64_t factor = at == text ? 0 : suffix_factor(at, unit);
	overflow |= __builtin_mul_overflow(value, factor, &value);
	if (!factor)
		return -EINVAL;
	*number = value;
	return overflow ? -ERANGE : 0;
}
