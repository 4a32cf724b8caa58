/*
 * The registries as arrays: codes.def, losses.def and thresholds.def expanded once each, for the shim and for every
 * tool. Constant data only: usable at any moment of a process's life, from any thread.
 */
#include "core/registry/codes.h"

#include <stdbool.h>

#define LEVEL_ERROR TRACE_LEVEL_ERROR, 0
#define LEVEL_WARN TRACE_LEVEL_WARN, 0
#define LEVEL_HINT TRACE_LEVEL_HINT, 0
#define LEVEL_LIFETIME TRACE_LEVEL_WARN, 1

static const struct code_info codes[] = {
#define CODE(number, name, level, sentence, help) {number, name, LEVEL_##level, sentence, help},
#include "core/registry/codes.def"
#undef CODE
};

static const char *const loss_texts[TRACE_LOSS_COUNT] = {
#define LOSS(id, text) [TRACE_LOSS_##id] = (text),
#include "core/registry/losses.def"
#undef LOSS
};

static const char *const threshold_keys[TRACE_THRESHOLD_COUNT] = {
#define THRESHOLD(id, key, dflt, min, max, unit, help) [TRACE_THRESHOLD_##id] = (key),
#include "core/registry/thresholds.def"
#undef THRESHOLD
};

size_t codes_count(void)
{
	return sizeof codes / sizeof codes[0];
}

const struct code_info *codes_at(size_t index)
{
	return &codes[index];
}

const struct code_info *codes_find(uint32_t number)
{
	for (size_t i = 0; i < codes_count(); i++)
		if (codes[i].number == number)
			return &codes[i];
	return NULL;
}

int codes_place(uint32_t number)
{
	const struct code_info *code = codes_find(number);
	return code ? (int)(code - codes) : -1;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_word(const char *a, const char *b)
{
	for (; *a && lower(*a) == lower(*b); a++)
		b++;
	return lower(*a) == lower(*b);
}

const struct code_info *codes_named(const char *text)
{
	const char *digits = lower(text[0]) == 'f' && lower(text[1]) == 'a' ? text + 2 : text;
	uint32_t number = 0, count = 0;
	for (; digits[count] >= '0' && digits[count] <= '9' && count < 9; count++)
		number = number * 10 + (uint32_t)(digits[count] - '0');
	if (count && !digits[count])
		return codes_find(number == 702 ? 603 : number);
	for (size_t i = 0; i < codes_count(); i++)
		if (same_word(codes[i].name, text))
			return &codes[i];
	return NULL;
}

const char *codes_loss_text(enum trace_loss loss)
{
	return loss_texts[loss];
}

const char *codes_threshold_key(enum trace_threshold threshold)
{
	return threshold_keys[threshold];
}
