/* What is no cancellation point in glibc: a thread with a cancellation pending allocates over so many call paths that the recording
   grows, and from frames that only libunwind can tell the caller of, makes blocks larger that have to move, asks for statistics,
   and ends by itself. */
#include "common.h"

#include <malloc.h>

/* Its frame's address is an expression. */
void hardly(void (*call)(void));
__asm__(".text\n"
	".type hardly, @function\n"
	"hardly:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_escape 0x0f, 3, 0x77, 16, 0x96\n" /* def_cfa_expression: breg7 16; nop */
	"	call *%rdi\n"
	"	pop %rbx\n"
	"	.cfi_def_cfa %rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size hardly, .-hardly\n");

static int reached;

SITE void spread(int depth, unsigned bits)
{
	if (!depth)
		free(malloc(16));
	else if (bits & 1)
		spread(depth - 1, bits >> 1);
	else
		spread(depth - 1, bits >> 1);
	__asm__ volatile("");
}

SITE void grow(void)
{
	char *block = NULL;
	for (size_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 2) {
		char *grown = realloc(block, bytes), *after = malloc(bytes);
		CHECK(grown && after);
		memset(grown + bytes / 2, 1, bytes / 2);
		block = grown;
		free(after);
	}
	free(block);
}

SITE void allocate(void)
{
	free(malloc(24));
}

/* Over more pages of stack than libunwind keeps in mind. */
SITE void from_hard_frames(int depth) /* NOLINT(misc-no-recursion) */
{
	volatile char room[5000];
	room[depth] = 1;
	if (depth)
		from_hard_frames(depth - 1);
	else
		hardly(allocate);
	room[depth] = 0;
}

static void *worker(void *argument)
{
	pthread_cancel(pthread_self());
	for (unsigned i = 0; i < 1 << 13; i++)
		spread(13, i);
	grow();
	from_hard_frames(12);
	malloc_stats();
	reached = 1;
	return argument;
}

int main(void)
{
	pthread_t thread;
	void *result = NULL;
	CHECK(pthread_create(&thread, NULL, worker, &reached) == 0 && pthread_join(thread, &result) == 0);
	CHECK(reached && result == &reached);
	for (unsigned i = 0; i < 1 << 13; i++)
		spread(14, i | 0x2000);
	return failures;
}
