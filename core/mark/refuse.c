/*
 * The functions that a patch would break by design: those that return twice, that look at who called them, or that
 * have a calling convention of their own. Told apart by address, so that aliases count.
 */
#define _GNU_SOURCE
#include "core/mark/refuse.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"

struct refusal {
	const char *reason;
	const char *names[12];
};

static const struct refusal refusals[] = {
	{"it returns twice",
	 {"setjmp", "_setjmp", "__sigsetjmp", "sigsetjmp", "vfork", "__vfork", "getcontext", "__getcontext",
	  "savectx"}},
	{"it looks at its caller", {"dlopen", "dlmopen", "dlsym", "dlvsym", "mcount", "_mcount", "__fentry__"}},
	{"it has a calling convention of its own", {"__tls_get_addr", "___tls_get_addr", "__tls_get_addr_slow"}},
};

const char *refuse_function(const struct image *image, uintptr_t address)
{
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
		for (const char *const *name = refusals[i].names; *name; name++) {
			const Elf64_Sym *symbol = image_lookup(image, *name);
			if (symbol && ELF64_ST_TYPE(symbol->st_info) != STT_GNU_IFUNC &&
			    image_symbol_address(image->base, symbol) == address)
				return refusals[i].reason;
		}
	/* All of it: symbol resolution and thread-local storage enter it with a convention that no compiler knows. */
	if (image_is_linker(image))
		return "it belongs to the dynamic linker";
	return NULL;
}

/* num_threads is the 20th field; the second one is in parentheses and may hold anything. */
static long thread_count(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t length = read(fd, text, sizeof text - 1);
	close(fd);
	if (length <= 0)
		return -1;
	text[length] = 0;
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 20; field++)
		at = strchr(at + 1, ' ');
	long count = 0;
	for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		count = count * 10 + (*at - '0');
	return count ? count : -1;
}

/* Without /proc glibc's own word is taken; it errs to the safe side. */
static bool libc_says_single(void)
{
	extern char __libc_single_threaded __attribute__((weak));
	return &__libc_single_threaded && __libc_single_threaded;
}

const char *refuse_now(void)
{
	long count = thread_count();
	if (count < 0 ? libc_says_single() : count == 1)
		return NULL;
	return "other threads are running already";
}
