/*
 * Small things that every parser of the registry needs: one-line messages, words of a list, sizes, nearest words.
 * Pure functions over the caller's memory, for the shim before libc is ready and for the tools alike.
 */
#ifndef FA_REGISTRY_WORDS_H
#define FA_REGISTRY_WORDS_H

#include <stddef.h>
#include <stdint.h>

#define WORDS_KEY_BYTES 32 /* no suggestion for words that are as long */

/* Appends to `line`, which is terminated and `line_bytes` large, cutting what does not fit; bytes that could upset a
   terminal or the one line become '?'. */
void words_add(char *line, size_t line_bytes, const char *text);
void words_add_number(char *line, size_t line_bytes, uint64_t number);
/* With the largest binary suffix that leaves no remainder: 64M. */
void words_add_size(char *line, size_t line_bytes, uint64_t bytes);
/* A user's word in quotes, at most 80 bytes of it. */
void words_add_quoted(char *line, size_t line_bytes, const char *text);

/* Which of the words in "a|b|c" `word` is, or -1. */
int words_choice(const char *choices, const char *word);

/* Levenshtein distance; SIZE_MAX when one of them has WORDS_KEY_BYTES or more. */
size_t words_distance(const char *a, const char *b);

/* The best candidate so far for what `word` was meant to be. */
struct words_nearest {
	const char *word;
	size_t distance;
};
void words_nearest_try(struct words_nearest *nearest, const char *word, const char *candidate);

/* "16384", "16K", "2 MiB" without the blank, in the unit of a threshold ("B" bytes, "n" a count, "ms", "%", "f").
   Returns 0, -EINVAL (no such number) or -ERANGE (does not fit 64 bits). */
int words_number(const char *text, const char *unit, uint64_t *number);

#endif
