/* Call paths against glibc's backtrace(): every shape of frame, the cache's answers compared with full walks, and programs
   that lie to it. `test_path --bench` prints the costs. Frames must stay as compiled: no sanitizer.
   Sources: core/path/module.c core/path/cfi.c core/path/eh_frame.c core/path/walk.c core/path/unwinder.c core/path/tree.c core/path/run.c core/path/cache.c core/base.c core/library.c; libs: -ldl */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/path/path.h"

#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif
#define REALIGNED NOINLINE __attribute__((force_align_arg_pointer))

static int failures;
static __thread struct path_cache *cache;
static __thread volatile int keep; /* read after calls, so that none becomes a jump */
static bool quiet; /* in the bench: path_value alone */

#define CHECK(condition, ...)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			failures++;                                                                                    \
			printf("%s:%d: %s: ", __func__, __LINE__, #condition);                                         \
			printf(__VA_ARGS__);                                                                           \
			printf("\n");                                                                                  \
		}                                                                                                      \
	} while (0)

static uint32_t hash_path(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)kept;
	uint64_t hash = cut + tag;
	for (size_t i = 0; i < count; i++)
		hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
	return (uint32_t)hash;
}

/* What an interposed function does. The pcs above the hook must be what backtrace() says. */
static NOINLINE void hook(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	static __thread void *theirs[PATH_DEPTH_MAX + 64];
	static __thread uintptr_t ours[PATH_DEPTH_MAX];
	if (!cache)
		cache = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	errno = 4711;
	uint32_t value = path_value(cache, fp, 0, hash_path);
	CHECK(errno == 4711, "errno %d", errno);
	if (quiet)
		return;
	bool cut;
	size_t count = path_capture(fp, ours, PATH_DEPTH_MAX, &cut);
	size_t all = (size_t)backtrace(theirs, PATH_DEPTH_MAX + 64), skipped = 0;
	while (skipped < all && (uintptr_t)theirs[skipped] != fp[1])
		skipped++;
	CHECK(cut == (all - skipped > PATH_DEPTH_MAX), "cut %d, %zu frames", cut, all - skipped);
	CHECK(cut || count == all - skipped, "%zu frames, backtrace has %zu", count, all - skipped);
	for (size_t i = 0; i < count && skipped + i < all; i++)
		if (ours[i] != (uintptr_t)theirs[skipped + i]) {
			CHECK(false, "frame %zu of %zu: %#lx, backtrace has %p", i, count, ours[i],
			      theirs[skipped + i]);
			break;
		}
	CHECK(value == hash_path(NULL, ours, count, cut, 0, NULL), "wrong value at %zu frames", count);
}

static struct path_stats stats(void)
{
	struct path_stats now = {0};
	path_cache_stats(cache, &now);
	return now;
}

static NOINLINE void plain(int depth)
{
	if (depth > 0)
		plain(depth - 1);
	else
		hook();
	keep++;
}

static NOINLINE void test_recursion(void)
{
	for (int round = 0; round < 3; round++)
		for (int depth = 0; depth < 60; depth++)
			plain(depth);
	plain(PATH_DEPTH_MAX + 30);
	plain(PATH_DEPTH_MAX + 30);
}

/* Frames that are found by their frame pointers. */
static NOINLINE void pointed(int depth)
{
	volatile char *area = alloca((size_t)(16 + depth % 3 * 16));
	area[0] = 0;
	if (depth > 0)
		pointed(depth - 1);
	else
		hook();
	keep += area[0];
}

/* Of a recursion beyond the cap the innermost frames are the same ones at any depth: found, not walked. */
static NOINLINE void test_beyond_the_cap(void)
{
	static void (*const recursions[])(int) = {plain, pointed};
	for (size_t i = 0; i < sizeof recursions / sizeof recursions[0]; i++) {
		for (int depth = PATH_DEPTH_MAX - 12; depth < PATH_DEPTH_MAX + 12; depth++)
			recursions[i](depth); /* and those that end just there */
		uint64_t before = stats().captures;
		for (int depth = PATH_DEPTH_MAX + 12; depth < PATH_DEPTH_MAX + 90; depth++)
			recursions[i](depth);
		uint64_t walked = stats().captures - before;
		CHECK(walked <= 2, "recursion %zu: %lu of 78 walked", i, walked);
	}
}

/* A path that was cut keeps its value where another with the same innermost frames is folded, however often that comes. */
static uint32_t cut_asked;
static uint32_t value_cut_or_two(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)pcs, (void)tag;
	cut_asked++;
	*kept = cut ? count : 2;
	return cut ? 1 : 2;
}

static uint32_t cut_or_folded;
static NOINLINE void hook_cut_or_folded(void)
{
	static struct path_cache *both;
	if (!both)
		both = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cut_or_folded = path_value(both, __builtin_frame_address(0), 0, value_cut_or_two);
}

static NOINLINE void recurses(int depth, void (*leaf)(void))
{
	if (depth > 0)
		recurses(depth - 1, leaf);
	else
		leaf();
	keep++;
}

static NOINLINE void test_cut_and_folded(void)
{
	for (int i = 0; i < 300; i++) {
		recurses(PATH_DEPTH_MAX + i % 50, hook_cut_or_folded);
		CHECK(cut_or_folded == 1, "the path that was cut, after %d: %u", i, cut_or_folded);
		recurses(5 + i % 50, hook_cut_or_folded);
		CHECK(cut_or_folded == 2, "the folded path, after %d: %u", i, cut_or_folded);
	}
	CHECK(cut_asked < 8, "%u of 600 asked for", cut_asked);
}

/* On a stack that begins with the recursion itself: its innermost frames are those of what was cut, but there are no more. */
static ucontext_t short_stack, back_from_short_stack;
static NOINLINE void recurses_to_hook(int depth)
{
	if (depth > 0)
		recurses_to_hook(depth - 1);
	else
		hook();
	if (depth == PATH_DEPTH_MAX - 1)
		setcontext(&back_from_short_stack);
	keep++;
}

static NOINLINE void test_ends_at_the_cap(void)
{
	static _Alignas(16) uintptr_t stack[1 << 15];
	uintptr_t *top = &stack[sizeof stack / sizeof stack[0] - 33];
	getcontext(&short_stack);
	*top = 0; /* as if called from nowhere */
	short_stack.uc_mcontext.gregs[REG_RSP] = (greg_t)top;
	short_stack.uc_mcontext.gregs[REG_RBP] = 0;
	short_stack.uc_mcontext.gregs[REG_RIP] = (greg_t)recurses_to_hook;
	short_stack.uc_mcontext.gregs[REG_RDI] = PATH_DEPTH_MAX + 200; /* below what returns: found again */
	(void)swapcontext(&back_from_short_stack, &short_stack);
	short_stack.uc_mcontext.gregs[REG_RDI] = PATH_DEPTH_MAX - 1;
	(void)swapcontext(&back_from_short_stack, &short_stack);
}

/* The same stack depth and return address, but a local array of changing size between, filled with return addresses
   that other paths left: each was true once at some offset. */
static uintptr_t stale[64];
static size_t stale_count;

static NOINLINE void collect(void)
{
	void *pcs[64];
	stale_count = (size_t)backtrace(pcs, 64);
	memcpy(stale, pcs, stale_count * sizeof pcs[0]);
	hook();
	keep++;
}

static NOINLINE void variable(int words, void (*next)(void))
{
	volatile uintptr_t *area = alloca((size_t)words * sizeof *area);
	for (int i = 0; i < words; i++)
		area[i] = stale_count ? stale[(size_t)i % stale_count] : 0;
	next();
	keep += (int)area[words / 2];
}

static NOINLINE void leaf_a(void)
{
	variable(40, hook);
	keep++;
}

static NOINLINE void leaf_b(void)
{
	variable(24, collect);
	variable(24, hook);
	keep++;
}

static NOINLINE void between(int words, void (*next)(void))
{
	char area[words * 16];
	memset(area, words, sizeof area);
	next();
	keep += area[words];
}

/* Copies the live stack above into an alloca area, shifted: whole stale chains at every offset a candidate may hold. */
static NOINLINE void mirror(int words, int shift)
{
	volatile uintptr_t *area = alloca(((size_t)words + 64) * sizeof *area);
	const uintptr_t *above = __builtin_frame_address(0);
	for (int i = 0; i + shift < words; i++)
		area[i + shift] = above[i];
	hook();
	keep += (int)area[0];
}

static NOINLINE void mirror_from(int kind, int words, int shift)
{
	if (kind == 0)
		mirror(words, shift);
	else if (kind == 1)
		mirror(words, shift);
	else
		between(2 + words % 5, hook);
	keep++;
}

static NOINLINE void test_deception(void)
{
	for (int round = 0; round < 200; round++) {
		leaf_a();
		leaf_b();
		between(3 + round % 11, leaf_a);
		between(3 + round % 7, leaf_b);
		variable(8 + round % 50, round & 1 ? leaf_a : leaf_b);
		mirror_from(round % 3, 16 + round % 48, round % 9);
	}
}

static REALIGNED void realigned(int depth)
{
	_Alignas(64) volatile char aligned[128];
	memset((char *)aligned, depth, sizeof aligned);
	if (depth > 0)
		realigned(depth - 1);
	else
		hook();
	CHECK(((uintptr_t)aligned & 63) == 0, "not aligned");
	keep += aligned[5];
}

static REALIGNED void realigned_variable(int words)
{
	_Alignas(64) volatile char aligned[64];
	volatile char *area = alloca((size_t)words);
	aligned[0] = area[0] = 1;
	realigned(words % 5);
	hook();
	keep += aligned[0] + area[0];
}

static NOINLINE void test_realigned(void)
{
	for (int round = 0; round < 100; round++) {
		realigned(round % 6);
		realigned_variable(16 + round * 8 % 200);
		between(3 + round % 5, hook);
	}
}

/* The call is the function's last instruction: the return address lies behind its end. */
static ucontext_t back_from_noreturn;
static NOINLINE __attribute__((noreturn)) void never_returns(void)
{
	hook();
	setcontext(&back_from_noreturn);
	abort();
}

static NOINLINE void calls_noreturn(void)
{
	keep++;
	never_returns();
}

static NOINLINE void test_noreturn(void)
{
	volatile int passes = 0;
	getcontext(&back_from_noreturn);
	if (passes++ < 3)
		calls_noreturn();
}

static void on_signal(int number)
{
	(void)number;
	plain(2);
}

static NOINLINE void test_signals(void)
{
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	sigaltstack(&alternate, NULL);
	for (int flags = 0; flags < 2; flags++) {
		struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags ? SA_ONSTACK : 0};
		sigaction(SIGUSR1, &action, NULL);
		for (int i = 0; i < 5; i++)
			raise(SIGUSR1);
	}
}

/* A handler that allocates while its thread is inside path_value. */
static volatile int ticks;
static void on_tick(int number)
{
	(void)number;
	const uintptr_t *fp = __builtin_frame_address(0);
	path_value(cache, fp, 0, hash_path);
	ticks++;
}

static NOINLINE void test_reentry(void)
{
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, NULL);
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct itimerspec often = {{0, 500000}, {0, 500000}};
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &often, NULL);
	quiet = true;
	for (int i = 0; i < 5000000 && ticks < 50; i++)
		plain(i % 30);
	quiet = false;
	timer_delete(timer);
	signal(SIGALRM, SIG_IGN);
	CHECK(ticks > 10, "%d ticks", ticks);
	for (int depth = 0; depth < 30; depth++)
		plain(depth);
}

/* Paths whose owner tells them apart by two frames only: who calls those two is not looked at, but now and then. */
static int interned;
static uint32_t hash_two(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)cut;
	interned++;
	*kept = count < 2 ? count : 2;
	return hash_path(NULL, pcs, *kept, false, tag, NULL);
}

static NOINLINE void folded_hook(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	static struct path_cache *folded;
	uintptr_t two[2];
	bool cut;
	if (!folded)
		folded = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t count = path_capture(fp, two, 2, &cut);
	CHECK(path_value(folded, fp, 0, hash_two) == hash_path(NULL, two, count, false, 0, NULL),
	      "another path's value");
}

#define FOLDED_CALLER(name, callee)                                                                                    \
	static NOINLINE void name(void)                                                                                \
	{                                                                                                              \
		callee();                                                                                              \
		keep++;                                                                                                \
	}
FOLDED_CALLER(folded_one, folded_hook)
FOLDED_CALLER(folded_two, folded_hook)
FOLDED_CALLER(folded_through, folded_one)
FOLDED_CALLER(folded_through_two, folded_two)
FOLDED_CALLER(folded_from_a, folded_through)
FOLDED_CALLER(folded_from_b, folded_through)
FOLDED_CALLER(folded_from_c, folded_through)
FOLDED_CALLER(folded_from_d, folded_through_two)

static NOINLINE void folded_deeper(int more)
{
	if (more)
		folded_deeper(more - 1);
	else
		folded_through();
	keep++;
}

/* What lies where a caller's return address lay before: the frames between the two are of another size now. */
static uintptr_t folded_stale, folded_return;
static NOINLINE void folded_varied(size_t words)
{
	volatile uintptr_t *area = alloca(words * sizeof *area);
	for (size_t i = 0; i < words; i++)
		area[i] = folded_stale;
	folded_return = (uintptr_t)__builtin_return_address(0);
	folded_hook();
	keep += (int)area[0];
}

static NOINLINE void folded_x(size_t words)
{
	folded_varied(words);
	keep++;
}

static NOINLINE void folded_y(size_t words)
{
	folded_varied(words);
	keep++;
}

static NOINLINE void test_folded(void)
{
	for (int i = 0; i < 1000; i++) {
		folded_from_a();
		folded_from_b();
		folded_from_c();
		folded_from_d();
	}
	/* Two values; each 1,024th of 4,000 is walked all the same, and perhaps one that is found wrong. */
	CHECK(interned >= 2 + 3 && interned <= 2 + 4, "%d of 4000 asked for", interned);
	interned = 0;
	for (int i = 0; i < 40; i++)
		folded_deeper(i);
	CHECK(interned <= 1, "%d asked for again, at 40 depths", interned);
	for (size_t words = 16; words < 64; words++) {
		folded_stale = 0;
		folded_x(16);
		folded_stale = folded_return;
		folded_y(words);
	}
	interned = 0;
	for (int i = 0; i < 40; i++)
		folded_x(16);
	CHECK(interned <= 2, "%d of 40 asked for again, with a frame pointer", interned);
}

/* Coroutines: small stacks, freed and mapped again at the same place. */
static ucontext_t scheduler, coroutine;
static int coroutine_depth;
static void coroutine_main(void)
{
	for (int i = 0; i < 4; i++) {
		plain(coroutine_depth % 7 + i);
		variable(8 + coroutine_depth % 9, hook);
		swapcontext(&coroutine, &scheduler);
	}
}

static NOINLINE void test_coroutines(void)
{
	for (coroutine_depth = 0; coroutine_depth < 60; coroutine_depth++) {
		size_t bytes = 16384 + 4096 * (size_t)(coroutine_depth % 3);
		void *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		getcontext(&coroutine);
		coroutine.uc_stack = (stack_t){.ss_sp = stack, .ss_size = bytes - 128};
		coroutine.uc_link = &scheduler;
		makecontext(&coroutine, coroutine_main, 0);
		/* What is in rbp looks like a frame pointer, though nobody called the entry. */
		uintptr_t *frame = (uintptr_t *)((char *)stack + bytes - 64);
		frame[1] = (uintptr_t)test_coroutines;
		coroutine.uc_mcontext.gregs[REG_RBP] = (greg_t)frame;
		for (int i = 0; i < 4; i++) {
			swapcontext(&scheduler, &coroutine);
			plain(i);
		}
		munmap(stack, bytes);
	}
}

static void *thread_main(void *argument)
{
	int seed = (int)(intptr_t)argument;
	for (int i = 0; i < 500; i++) {
		plain((i * 7 + seed) % 40);
		variable(4 + i % 13, hook);
	}
	CHECK(stats().wrong == 0 && stats().failed == 0, "thread");
	return NULL;
}

static NOINLINE void test_threads(void)
{
	pthread_t threads[4];
	for (intptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, thread_main, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static struct path_cache *counted;
static NOINLINE uint32_t hook_counted(uint32_t tag)
{
	return path_value(counted, __builtin_frame_address(0), tag, hash_path);
}

static NOINLINE void hook_at_depth(size_t bytes, unsigned caller)
{
	volatile char room[bytes];
	room[0] = 0;
	switch (caller) {
	case 0:
		keep += hook_counted(0) & 1;
		break;
	case 1:
		keep += hook_counted(0) & 2;
		break;
	case 2:
		keep += hook_counted(0) & 4;
		break;
	default:
		keep += hook_counted(0) & 8;
	}
}

/* Thousands of callers and depths, so that roots meet in the table: each is walked once, and found each time that it comes
   again. */
static NOINLINE void test_each_lookup_is_counted(void)
{
	enum { PATHS = 6000 };
	counted = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (uint64_t round = 0; round < 4; round++) {
		struct path_stats now = {0};
		for (unsigned path = 0; path < PATHS; path++)
			hook_at_depth(16 + path / 4 * 16, path % 4);
		path_cache_stats(counted, &now);
		CHECK(now.captures == PATHS && now.hits == round * PATHS, "round %lu: %lu walks, %lu hits", round,
		      now.captures, now.hits);
	}
}

static uint32_t values;
static uint32_t next_value(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)pcs, (void)count, (void)cut, (void)tag, (void)kept;
	return ++values;
}

static NOINLINE uint32_t hook_valued(void)
{
	return path_value(counted, __builtin_frame_address(0), 0, next_value);
}

/* What is re-verified is the answer, too: an owner that has another value for the same path by now is answered anew, and it counts
   as wrong. */
static NOINLINE void test_an_answer_is_verified(void)
{
	counted = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 20000; i++) {
		uint32_t value = hook_valued();
		CHECK(value == values, "%u of %u", value, values);
	}
	struct path_stats now = {0};
	path_cache_stats(counted, &now);
	CHECK(now.checks > 5 && now.wrong == now.checks && values == 1 + 2 * now.wrong,
	      "%lu checks, %lu wrong, %u values", now.checks, now.wrong, values);
}

/* An owner that had no value for a path is asked again now and then, and nothing was wrong when it has one. */
static NOINLINE void test_no_value_is_none_for_good(void)
{
	counted = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	values = 0;
	path_cache_own(counted, NULL, 1);
	struct path_stats now = {0};
	for (uint32_t i = 0; values < 2 && i < 20000; i++) {
		uint32_t value = hook_valued();
		CHECK(value == values, "%u of %u", value, values);
	}
	path_cache_stats(counted, &now);
	CHECK(values == 2 && now.checks == 1 && now.captures == 2 && !now.wrong, "%u values, %lu checks, %lu wrong",
	      values, now.checks, now.wrong);
}

static NOINLINE void test_a_tag_is_part_of_the_question(void)
{
	uint32_t first[4];
	for (unsigned round = 0; round < 12; round++) {
		uint32_t value = hook_counted(round % 4);
		if (round < 4)
			first[round] = value;
		CHECK(value == first[round % 4], "round %u", round);
	}
	CHECK(first[0] != first[1] && first[0] != first[2] && first[1] != first[2] && first[2] != first[3],
	      "tags are alike");
}

/* Two libraries of the same layout loaded at the same place, one after the other: the paths through them differ though
   every return address is the same, which their modules' indices tell. */
static uint32_t modules_of_path(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner, (void)kept;
	(void)cut, (void)tag;
	return count > 1 ? path_module_of(pcs[1]) : 0;
}

static uint32_t module_seen;
static NOINLINE void hook_module(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	static struct path_cache *own;
	if (!own)
		own = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	module_seen = path_value(own, fp, 0, modules_of_path);
}

static NOINLINE void hook_module_from_here(void)
{
	hook_module();
	keep++;
}

static const char *library_make(char *path, const char *folder, int number)
{
	char command[1024];
	snprintf(path, 256, "%s/lib%d.so", folder, number);
	snprintf(command, sizeof command,
		 "echo 'int id = %d; int enter(void (*f)(void)) { f(); return id; }' | "
		 "cc -shared -fPIC -O1 -Wl,--build-id -xc - -o %s",
		 number, path);
	return system(command) ? NULL : path;
}

static NOINLINE void test_reload(void)
{
	char folder[] = "/tmp/test_path_XXXXXX", paths[2][256], command[300];
	if (!mkdtemp(folder))
		return;
	uintptr_t addresses[6];
	uint32_t seen[6];
	for (int i = 0; i < 2; i++)
		CHECK(library_make(paths[i], folder, i), "no compiler");
	for (int i = 0; i < 6; i++) {
		void *library = dlopen(paths[i % 2], RTLD_NOW | RTLD_LOCAL);
		int (*enter)(void (*)(void)) = (int (*)(void (*)(void)))dlsym(library, "enter");
		path_modules_refresh();
		addresses[i] = (uintptr_t)enter;
		for (int round = 0; round < 3; round++)
			enter(hook_module_from_here);
		seen[i] = module_seen;
		const struct path_module *module = path_module_at(seen[i]);
		CHECK(module && !strcmp(module->path, paths[i % 2]), "path through %s",
		      module ? module->path : "nothing");
		CHECK(module && module->build_id_bytes == 20 && !module->unloaded, "build id");
		enter(hook);
		dlclose(library);
		path_modules_refresh();
		CHECK(module && module->unloaded, "not marked");
	}
	CHECK(addresses[0] != addresses[2] || seen[0] == seen[2], "an index moved");
	if (addresses[0] != addresses[1])
		printf("note: the libraries were not loaded at the same place\n");
	snprintf(command, sizeof command, "rm -r %s", folder);
	CHECK(!system(command), "rm");
}

/* Code without unwind information, with and without a frame pointer. */
static NOINLINE void test_generated(void)
{
	static const uint8_t with_frame[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3}; /* push, mov, call *rdi */
	static const uint8_t without[] = {0x55, 0x31, 0xed, 0xff, 0xd7, 0x5d, 0xc3}; /* xor ebp,ebp instead */
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, with_frame, sizeof with_frame);
	memcpy(code + 64, without, sizeof without);
	for (int i = 0; i < 50; i++) {
		void (*entry)(void (*)(void)) = (void (*)(void (*)(void)))(void *)(code + 64 * (i % 2));
		quiet = true;
		entry(hook);
		quiet = false;
		uintptr_t pcs[8];
		bool cut;
		CHECK(path_capture(__builtin_frame_address(0), pcs, 8, &cut) > 1, "after generated code");
	}
	munmap(code, 4096);
}

/* Generated code has in rbp what looks like a frame pointer, to memory that is unmapped then. */
static ucontext_t before_generated, in_generated;
static struct {
	void (*enter)(void (*leaf)(void), const uintptr_t *rbp);
	void (*leaf)(void);
	uintptr_t *rbp;
} generated;

static void run_generated(void)
{
	for (;;) {
		generated.enter(generated.leaf, generated.rbp);
		swapcontext(&in_generated, &before_generated);
	}
}

static NOINLINE void hook_at_first(void)
{
	hook();
	keep++;
}

static NOINLINE void hook_then(void)
{
	hook();
	keep += 2;
}

static NOINLINE void test_generated_frame_unmapped(void)
{
	static const uint8_t instructions[] = {0x55, 0x48, 0x89, 0xf5,
					       0xff, 0xd7, 0x5d, 0xc3}; /* push, mov %rsi, call *%rdi */
	uint8_t *memory = mmap(NULL, 32 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(memory, instructions, sizeof instructions);
	memcpy(&generated.enter, &memory, sizeof memory);
	getcontext(&in_generated);
	in_generated.uc_stack = (stack_t){.ss_sp = memory + 4096, .ss_size = 16 * 4096};
	makecontext(&in_generated, run_generated, 0);
	generated.rbp = (uintptr_t *)(memory + 20 * 4096);
	generated.rbp[1] = (uintptr_t)memory + sizeof instructions;
	quiet = true;
	generated.leaf = hook_at_first;
	swapcontext(&before_generated, &in_generated);
	munmap(generated.rbp, 4096);
	generated.leaf = hook_then;
	swapcontext(&before_generated, &in_generated);
	quiet = false;
	munmap(memory, 32 * 4096);
}

/* Calls `leaf` on another stack, and says of its caller what Wine's does: where its pc and stack pointer were saved. */
void off_stack(void (*leaf)(void), void *stack);
__asm__(".text\noff_stack:\n.cfi_startproc\n"
	"mov (%rsp), %rax\nlea 8(%rsp), %rcx\nmov %rax, -40(%rsi)\nmov %rcx, -16(%rsi)\nmov %rbp, (%rsi)\n"
	"mov %rsi, %rbp\n"
	".cfi_escape 0x0f, 3, 0x76, 0x70, 0x06\n" /* CFA: *(rbp - 16) */
	".cfi_escape 0x10, 7, 2, 0x76, 0x70\n" /* rsp: at rbp - 16 */
	".cfi_escape 0x10, 16, 2, 0x76, 0x58\n" /* rip: at rbp - 40 */
	".cfi_escape 0x10, 6, 2, 0x76, 0x00\n" /* rbp: at rbp */
	"lea -64(%rbp), %rsp\ncall *%rdi\n"
	"mov -16(%rbp), %rsp\nmov -40(%rbp), %rax\nmov (%rbp), %rbp\njmp *%rax\n"
	".cfi_endproc\n");

static struct {
	uintptr_t pcs[16];
	size_t count;
	bool cut;
} seen_off_stack;

static NOINLINE void hook_off_stack(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	path_value(counted, fp, 0, hash_path);
	seen_off_stack.count = path_capture(fp, seen_off_stack.pcs, 16, &seen_off_stack.cut);
}

/* Where code on another stack has called whose frames nobody knows, a path ends with its return address, and is found again.
   Where they are known it goes on. */
static NOINLINE void test_off_stack(void)
{
	static const uint8_t instructions[] = {0x55, 0xff, 0xd2, 0x5d, 0xc3}; /* push %rbp, call *%rdx, pop, ret */
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *stack = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	counted = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 50; i++) {
		uint8_t *at = code + 64 * (i % 2);
		void (*call)(void (*leaf)(void), void *stack, void (*via)(void (*)(void), void *));
		memcpy(at, instructions, sizeof instructions);
		memcpy(&call, &at, sizeof at);
		call(hook_off_stack, stack + 63 * 4096, off_stack);
		CHECK(seen_off_stack.count == 2 && !seen_off_stack.cut && seen_off_stack.pcs[1] == (uintptr_t)at + 3,
		      "%zu frames, %#lx", seen_off_stack.count, seen_off_stack.pcs[1]);
	}
	struct path_stats now = {0};
	path_cache_stats(counted, &now);
	CHECK(now.captures == 2 && now.hits == 48 && !now.failed && !now.wrong, "%lu walks, %lu hits, %lu failed",
	      now.captures, now.hits, now.failed);
	off_stack(hook_off_stack, stack + 63 * 4096);
	CHECK(seen_off_stack.count > 2, "%zu frames", seen_off_stack.count);
	munmap(code, 4096);
	munmap(stack, 64 * 4096);
}

/* A path that is folded comes between two that are not. */
static bool fold_now;
static uint32_t hash_or_fold(void *owner, const uintptr_t *pcs, size_t count, bool cut, uint32_t tag, size_t *kept)
{
	(void)owner;
	*kept = fold_now ? 2 : count;
	return hash_path(NULL, pcs, *kept, cut, tag, NULL);
}

static NOINLINE void hook_between(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	static struct path_cache *between;
	uintptr_t pcs[PATH_DEPTH_MAX];
	bool cut;
	if (!between)
		between = mmap(NULL, path_cache_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t count = path_capture(fp, pcs, PATH_DEPTH_MAX, &cut);
	CHECK(path_value(between, fp, 0, hash_or_fold) == hash_path(NULL, pcs, fold_now ? 2 : count, cut, 0, NULL),
	      "another path's value");
}
FOLDED_CALLER(between_one, hook_between)
FOLDED_CALLER(between_other, hook_between)

static NOINLINE void between_from_here(void (*leaf)(void))
{
	recurses(40, leaf);
	keep++;
}

static NOINLINE void between_from_there(void (*leaf)(void))
{
	recurses(40, leaf);
	keep += 2;
}

static NOINLINE void test_a_folded_path_between(void)
{
	static const struct {
		void (*from)(void (*leaf)(void)), (*leaf)(void);
		bool fold;
	} volatile calls[] = {{between_from_here, between_one, false},
			      {between_from_there, between_one, true},
			      {between_from_there, between_other, false},
			      {between_from_here, between_other, false}};
	for (size_t i = 0; i < 4; i++) { /* by one call: callers further out are the same */
		fold_now = calls[i].fold;
		calls[i].from(calls[i].leaf);
	}
}

static double now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static volatile bool bench_captures;
static double bench_ns;
static NOINLINE void bench_leaf(void)
{
	const uintptr_t *fp = __builtin_frame_address(0);
	uintptr_t pcs[PATH_DEPTH_MAX];
	bool cut;
	bench_ns = 1e9;
	for (int batch = 0; batch < 40; batch++) { /* the quickest: what the machine does besides is no matter */
		int rounds = bench_captures ? 2000 : 50000;
		double start = now_ns();
		if (bench_captures)
			for (int i = 0; i < rounds; i++)
				path_capture(fp, pcs, PATH_DEPTH_MAX, &cut);
		else
			for (int i = 0; i < rounds; i++)
				path_value(cache, fp, 0, hash_path);
		double each = (now_ns() - start) / rounds;
		bench_ns = each < bench_ns ? each : bench_ns;
	}
}

static NOINLINE void bench_at(int depth)
{
	if (depth > 1)
		bench_at(depth - 1);
	else
		bench_leaf();
	keep++;
}

static NOINLINE void descend(unsigned *seed, int depth)
{
	*seed = *seed * 1103515245u + 12345u;
	unsigned choice = *seed >> 16;
	hook();
	if (depth && choice % 4)
		descend(seed, depth - 1);
	if (depth && choice % 3 == 0)
		descend(seed, depth - 1);
	keep++;
}

static void bench(void)
{
	void *frames[64];
	int above = backtrace(frames, 64); /* frames that are there anyway */
	static const int depths[] = {10, 17, 20, 40};
	quiet = true;
	for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
		bench_captures = false;
		bench_at(depths[i] - above);
		double hit = bench_ns;
		bench_captures = true;
		bench_at(depths[i] - above);
		printf("depth %d: hit %.1f ns, full walk %.0f ns\n", depths[i], hit, bench_ns);
	}
	struct path_stats before = stats();
	unsigned seed = 1;
	double start = now_ns();
	for (int i = 0; i < 200000; i++)
		descend(&seed, 12);
	double total = now_ns() - start;
	struct path_stats after = stats();
	double calls = (double)(after.hits - before.hits + after.captures - before.captures);
	printf("recursive descent: %.0f calls, %.1f ns each, %.3f %% hits\n", calls, total / calls,
	       100.0 * (double)(after.hits - before.hits) / calls);
}

int main(int argc, char **argv)
{
	uintptr_t caller;
	bool cut;
	CHECK(path_capture(__builtin_frame_address(0), &caller, 1, &cut) == 1, "before path_init: the caller");
	void *warm[4];
	backtrace(warm, 4); /* loads libgcc_s before the modules are read */
	CHECK(path_init(PATH_DEPTH_MAX) == 0, "path_init");
	test_recursion();
	if (argc > 1 && !strcmp(argv[1], "--bench")) {
		bench();
		return failures != 0;
	}
	test_beyond_the_cap();
	test_cut_and_folded();
	test_ends_at_the_cap();
	test_deception();
	test_realigned();
	test_noreturn();
	test_signals();
	test_coroutines();
	test_folded();
	test_threads();
	test_each_lookup_is_counted();
	test_a_tag_is_part_of_the_question();
	test_an_answer_is_verified();
	test_no_value_is_none_for_good();
	test_reload();
	test_a_folded_path_between();
	test_generated();
	test_generated_frame_unmapped();
	test_off_stack();
	test_reentry();
	struct path_stats end = stats();
	printf("%lu hits, %lu full walks, %lu checks, %lu wrong, %lu failed\n", end.hits, end.captures, end.checks,
	       end.wrong, end.failed);
	CHECK(end.hits > 1000 && end.checks > 10 && !end.wrong, "statistics");
	return failures != 0;
}
