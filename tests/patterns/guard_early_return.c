/* A guard frees what was made while it was open, on every way out of the function. A block is handed out explicitly. */
#include <stdio.h>

#include "framealloc.h"

/* The digits of `text`, or NULL when it is empty, too long, or has something else in it. */
static char *parse(const char *text)
{
	FA_POOL_GUARD(guard);
	char *copy = fa_pool_alloc(strlen(text) + 1), *digits = fa_pool_alloc(strlen(text) + 1);
	strcpy(copy, text);
	if (!copy[0])
		return NULL; /* both are freed */
	char *end = digits;
	for (const char *c = copy; *c; c++) {
		FA_POOL_GUARD(inner); /* guards nest */
		char *note = fa_pool_alloc(32);
		snprintf(note, 32, "'%c'", *c);
		if (*c < '0' || *c > '9')
			return NULL; /* all three */
		*end++ = note[1];
	}
	*end = 0;
	if (end - digits > 8)
		return NULL;
	fa_guard_release(guard, digits); /* the caller's from now on; the copy is freed */
	return digits;
}

int main(void)
{
	static const char *const texts[] = {"12345", "", "12a", "123456789", "007"};
	for (int i = 0; i < 5; i++) {
		char *digits = parse(texts[i]);
		printf("%s: %s\n", texts[i], digits ? digits : "no number");
		fa_free(digits);
	}
	fa_stats_t stats;
	fa_stats(&stats);
	printf("live %d\n", (int)stats.other.live_blocks);
	return 0;
}
