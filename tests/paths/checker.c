/*
 * A preload that judges core/path: at every allocation (or one of PATHCHECK_EVERY) the cache's answer is compared, return
 * address by return address, with what libunwind finds from the same place. Nothing of libunwind's answer comes from us.
 * At exit one line is added to the file PATHCHECK_OUT: comparisons, answers that differ, that end early or late, hits.
 */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libunwind.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/path/path.h"

#define PATHS (1u << 19)
#define WORDS (1u << 26)
#define FP ((const uintptr_t *)__builtin_frame_address(0))
#define HOOK __attribute__((visibility("default"), noinline))

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

struct path {
	uint64_t hash;
	uint32_t first, count;
	bool cut;
};
static struct path *paths; /* by value */
static uint32_t *value_of_hash; /* 2 * PATHS places, open addressing */
static uintptr_t *words;
static uint32_t path_count = 1, word_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool started;
static uint64_t every = 1;
static _Atomic uint64_t calls, compared, differ, ours_short, theirs_short;
static _Atomic uint64_t captures, hits, wrong, failed;
static __thread bool inside __attribute__((tls_model("initial-exec")));
static __thread struct path_cache *cache __attribute__((tls_model("initial-exec")));

static void say(const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	int bytes = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	const char *name = getenv("PATHCHECK_OUT");
	int file = name ? open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	if (file >= 0) {
		if (write(file, line, (size_t)bytes) != bytes)
			abort();
		close(file);
	}
}

static void *area(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		abort();
	return memory;
}

static uint64_t hash_of(const uintptr_t *pcs, size_t count, bool cut)
{
	uint64_t hash = cut;
	for (size_t i = 0; i < count; i++)
		hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 31;
	return hash;
}

/* Where the value of a path is, or belongs. */
static uint32_t *place_of(uint64_t hash, const uintptr_t *pcs, size_t count, bool cut)
{
	for (uint64_t at = hash;; at++) {
		uint32_t *place = &value_of_hash[at % (2 * PATHS)];
		const struct path *path = &paths[*place];
		if (!*place || (path->hash == hash && path->count == count && path->cut == cut &&
				!memcmp(words + path->first, pcs, count * sizeof *pcs)))
			return place;
	}
}

/* A value for each path that the cache asks about. */
static uint32_t keep(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)kept;
	(void)tag;
	pthread_mutex_lock(&lock);
	uint64_t hash = hash_of(pcs, count, cut);
	uint32_t *place = place_of(hash, pcs, count, cut), value = *place;
	if (!value && path_count < PATHS && word_count + count < WORDS) {
		value = *place = path_count++;
		paths[value] = (struct path){hash, word_count, (uint32_t)count, cut};
		memcpy(words + word_count, pcs, count * sizeof *pcs);
		word_count += (uint32_t)count;
	}
	pthread_mutex_unlock(&lock);
	return value;
}

static size_t unwind(const uintptr_t *fp, uintptr_t *pcs, size_t max)
{
	unw_context_t context;
	unw_cursor_t cursor;
	unw_word_t pc, sp = 0;
	size_t count = 0;
	unw_getcontext(&context);
	unw_init_local(&cursor, &context);
	while (sp != (unw_word_t)(fp + 2))
		if (unw_step(&cursor) <= 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp))
			return 0;
	do {
		if (unw_get_reg(&cursor, UNW_REG_IP, &pc) || !pc)
			break;
		pcs[count++] = pc;
	} while (count < max && unw_step(&cursor) > 0);
	return count;
}

/* Whether libunwind has nothing but rbp to go by from frame number `at` on. */
static bool is_guess(const uintptr_t *fp, size_t at)
{
	unw_context_t context;
	unw_cursor_t cursor;
	unw_proc_info_t info;
	unw_word_t sp = 0;
	unw_getcontext(&context);
	unw_init_local(&cursor, &context);
	while (sp != (unw_word_t)(fp + 2))
		if (unw_step(&cursor) <= 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp))
			return false;
	while (at--)
		unw_step(&cursor);
	return unw_get_proc_info(&cursor, &info) != 0 || !info.unwind_info;
}

/* The path as module+offset, for who has to find out. */
static void tell(const uintptr_t *pcs, size_t count)
{
	char line[400];
	size_t used = 0;
	for (size_t i = 0; i < count && used < sizeof line - 100; i++) {
		uint32_t index = path_module_of(pcs[i]);
		const struct path_module *module = index == UINT32_MAX ? NULL : path_module_at(index);
		const char *name = module ? strrchr(module->path, '/') : NULL;
		used += (size_t)snprintf(line + used, sizeof line - used, " %.30s+%#lx", name ? name + 1 : "?",
					 pcs[i] - (module ? module->base : 0));
	}
	say("# %.*s\n", (int)used, line);
}

static void judge(const uintptr_t *fp, uint32_t value)
{
	uintptr_t theirs[PATH_DEPTH_MAX + 1];
	size_t count = unwind(fp, theirs, PATH_DEPTH_MAX + 1);
	const uintptr_t *ours = words + paths[value].first;
	size_t own = paths[value].count, common = own < count ? own : count;
	compared++;
	if (memcmp(ours, theirs, common * sizeof *ours)) {
		size_t at = 0;
		while (ours[at] == theirs[at])
			at++;
		if (differ++ < 5)
			say("# frame %zu of %zu is %#lx, libunwind has %#lx:\n", at, own, ours[at], theirs[at]),
				tell(ours, own);
	} else if (own < count && !paths[value].cut && theirs[own] != ours[own - 1] && !is_guess(fp, own - 1)) {
		/* else libunwind stands still, or goes on beyond a coroutine's entry */
		if (ours_short++ < 5)
			say("# ends after %zu frames, libunwind after %zu:\n", own, count), tell(theirs, count);
	} else if (own > count) {
		if (theirs_short++ < 5)
			say("# ends after %zu frames, libunwind after %zu:\n", own, count), tell(ours, own);
	}
}

static void note_stats(struct path_cache *of)
{
	struct path_stats stats = {0};
	path_cache_stats(of, &stats);
	captures += stats.captures;
	hits += stats.hits;
	wrong += stats.wrong;
	failed += stats.failed;
}

static pthread_key_t thread_end;
static void end_of_thread(void *of)
{
	note_stats(of);
}

static void check(const uintptr_t *fp)
{
	if (!started || inside)
		return;
	int saved = errno;
	inside = true;
	if (!cache) {
		cache = area(path_cache_bytes());
		pthread_setspecific(thread_end, cache);
	}
	uint32_t value = path_value(cache, fp, 0, keep);
	if (calls++ % every == 0 && value)
		judge(fp, value);
	inside = false;
	errno = saved;
}

HOOK void *malloc(size_t size)
{
	check(FP);
	return __libc_malloc(size);
}

HOOK void *calloc(size_t count, size_t size)
{
	check(FP);
	return __libc_calloc(count, size);
}

HOOK void *realloc(void *pointer, size_t size)
{
	check(FP);
	return __libc_realloc(pointer, size);
}

/* libunwind would go on with what it knew of the code that was there. */
HOOK int dlclose(void *library)
{
	static int (*next)(void *);
	if (!next)
		next = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
	int result = next(library);
	unw_flush_cache(unw_local_addr_space, 0, 0);
	return result;
}

__attribute__((constructor)) static void start(void)
{
	inside = true;
	paths = area(PATHS * sizeof *paths);
	value_of_hash = area(2 * PATHS * sizeof *value_of_hash);
	words = area(WORDS * sizeof *words);
	if (getenv("PATHCHECK_EVERY"))
		every = strtoull(getenv("PATHCHECK_EVERY"), NULL, 10);
	pthread_key_create(&thread_end, end_of_thread);
	unw_set_caching_policy(unw_local_addr_space, UNW_CACHE_PER_THREAD);
	const char *depth = getenv("PATHCHECK_DEPTH");
	if (path_init(depth ? strtoul(depth, NULL, 10) : PATH_DEPTH_MAX))
		abort();
	started = true;
	inside = false;
}

__attribute__((destructor)) static void finish(void)
{
	if (!started)
		return;
	started = false;
	if (cache)
		note_stats(cache);
	say("compared %lu differ %lu short %lu long %lu hits %lu captures %lu wrong %lu failed %lu paths %u\n",
	    compared, differ, ours_short, theirs_short, hits, captures, wrong, failed, path_count - 1);
}
