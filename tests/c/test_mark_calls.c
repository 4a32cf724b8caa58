/*
 * Patched functions behave as unpatched ones: mark_targets.cpp is built by gcc and clang, -O0 to -O3, with and without
 * CET prologues and frame pointers, as a library and as position-dependent and position-independent programs, and run
 * before and after each of its functions is patched with a callback that overwrites every register it can. Then the
 * registers themselves are compared, for each routine that this machine can run.
 * Sources: core/mark/finder.c core/mark/finder_next.c core/mark/image.c core/mark/symbols.c core/mark/names.c
 * core/mark/demangle.c core/mark/decode.c core/mark/extent.c core/mark/near.c core/mark/refuse.c core/mark/patch.c
 * core/mark/patch_relocate.c core/mark/patch_scan.c core/mark/patch_index.c core/mark/patch_stub.c core/mark/patch_stub.S core/base.c core/library.c
 * core/mark/patch_run.c core/mark/arguments.c core/mark/got.c core/mark/got_stub.S core/path/cfi.c core/path/eh_frame.c core/path/module.c
 * (no sanitizer)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/mark/mark.h"
#include "core/mark/patch_stub.h"
#include "tests/c/check.h"

struct marked {
	char name[32];
	long entries;
};
static struct marked marked[64];
static size_t marked_count;
static uintptr_t seen_return, seen_cfa;
static int vector_level; /* 0 SSE, 1 AVX, 2 AVX-512 */

#define GENERAL_ONLY __attribute__((target("general-regs-only")))

/* What libc and the unwinder may do to registers within a guarded callback, and more. */
static void wreck_vectors(void *unused, void *unused_too)
{
	(void)unused, (void)unused_too;
	__asm__ volatile(
		"pcmpeqd %%xmm0,%%xmm0; pcmpeqd %%xmm7,%%xmm7; pcmpeqd %%xmm8,%%xmm8; pcmpeqd %%xmm15,%%xmm15" ::
			: "xmm0", "xmm7", "xmm8", "xmm15");
	if (vector_level >= 1)
		__asm__ volatile("vcmptrueps %%ymm0,%%ymm0,%%ymm0; vmovaps %%ymm0,%%ymm1; vmovaps %%ymm0,%%ymm2; "
				 "vmovaps %%ymm0,%%ymm3; vmovaps %%ymm0,%%ymm14" ::
					 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm14");
	if (vector_level >= 2)
		__asm__ volatile(
			".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
			"vpternlogd $255,%%zmm\\n,%%zmm\\n,%%zmm\\n\n.endr\n"
			".irp n,0,1,2,3,4,5,6,7\nkxnorq %%k\\n,%%k\\n,%%k\\n\n.endr\n" ::
				: "memory");
	errno = 4321;
}

/* What any callback may do. */
GENERAL_ONLY static inline void wreck_general(void)
{
	__asm__ volatile("mov $-1,%%rax; mov %%rax,%%rcx; mov %%rax,%%rdx; mov %%rax,%%rsi; mov %%rax,%%rdi; mov "
			 "%%rax,%%r8; mov %%rax,%%r9; mov %%rax,%%r10; mov %%rax,%%r11; add %%rax,%%rax" ::
				 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");
}

GENERAL_ONLY static void on_entry(void *context, const uintptr_t *fp)
{
	((struct marked *)context)->entries++;
	seen_return = fp[1];
	seen_cfa = (uintptr_t)(fp + 2);
	patch_guarded(wreck_vectors, NULL, NULL);
	wreck_general();
}

GENERAL_ONLY static bool on_enter(void *context, const uintptr_t *fp, bool returns)
{
	on_entry(context, fp);
	return returns;
}

GENERAL_ONLY static void on_leave(void *context, const uintptr_t *fp)
{
	((struct marked *)context)->entries += fp[1] != seen_return ? 1000000 : 0;
	patch_guarded(wreck_vectors, NULL, NULL);
	wreck_general();
}

static bool take_one(void *context, const struct mark_function *function)
{
	*(struct mark_function *)context = *function;
	return false;
}

static struct mark_function find(const char *spec)
{
	struct mark_function function = {.address = 0};
	const char *reason;
	finder_each(spec, take_one, &function, &reason);
	return function;
}

/* NULL, or the reason of the refusal. */
static const char *mark(const char *module, const char *name)
{
	char spec[512];
	const char *reason = "not found";
	struct marked *made = &marked[marked_count];
	snprintf(spec, sizeof spec, "%s!%s", module, name);
	struct mark_function function = find(spec);
	if (!function.address || patch_entry(&function, on_entry, made, &reason))
		return reason;
	*made = (struct marked){.entries = 0};
	snprintf(made->name, sizeof made->name, "%s", name);
	marked_count++;
	return NULL;
}

static void check_module(const char *module, void (*run)(char *, size_t), const long *calls)
{
	static const char *const counted[] = {"t_recurse", "t_many",    "t_variadic", "t_large",  "t_throw",
					      "t_jump",    "t_private", "t_avx",      "t_avx512", "t_where"};
	static const char *const once[] = {"a_jump",     "a_return",  "a_tiny", "a_branch",  "a_counting", "a_pushcall",
					   "a_relative", "a_compare", "a_next", "a_pointer", "a_register"};
	char plain[1024], patched[1024];
	marked_count = 0;
	run(plain, sizeof plain);
	long before = *calls, entries = 0;
	for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
		const char *reason = mark(module, counted[i]);
		if (reason)
			printf("%s!%s: %s\n", module, counted[i], reason), failures++;
	}
	size_t counting = marked_count;
	for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
		const char *reason = mark(module, once[i]);
		if (reason)
			printf("%s!%s: %s\n", module, once[i], reason), failures++;
	}
	size_t single = marked_count;
	CHECK(!mark(module, "a_body") && !mark(module, "a_call"));
	const char *reason = mark(module, "a_short");
	CHECK(reason && !strcmp(reason, "too short"));
	reason = mark(module, "a_inside");
	CHECK(reason && strstr(reason, "jump target"));
	reason = mark(module, "a_early");
	CHECK(reason && strstr(reason, "calls through a pointer"));
	reason = mark(module, "a_head");
	CHECK(reason && strstr(reason, "a loop of its own"));
	run(patched, sizeof patched);
	if (strcmp(plain, patched))
		printf("%s:\n  plain   %s\n  patched %s\n", module, plain, patched), failures++;
	for (size_t i = 0; i < counting; i++)
		entries += marked[i].entries;
	if (entries != *calls - before)
		printf("%s: %ld calls, %ld entries\n", module, *calls - before, entries), failures++;
	for (size_t i = counting; i < single; i++)
		if (marked[i].entries != 2)
			printf("%s: %s entered %ld times\n", module, marked[i].name, marked[i].entries), failures++;
	CHECK(marked[single].entries == 10 &&
	      marked[single + 1].entries == 2); /* a_body: called from five places, twice */
}

#ifdef TARGETS_INSIDE
/* The program itself holds the targets: the position-dependent and -independent builds. */
extern long targets_calls;
extern uintptr_t targets_return, targets_cfa;
void targets_run(char *out, size_t bytes);
void t_where(void);

int main(void)
{
	vector_level = __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") != 0;
	CHECK(!patch_init());
	check_module("*mark_inside*", targets_run, &targets_calls);
	t_where();
	CHECK(seen_return == targets_return && seen_cfa == targets_cfa);
	return failures != 0;
}
#else

static const char *folder(void)
{
	static char path[64];
	if (!*path) {
		snprintf(path, sizeof path, "/tmp/mark-calls-XXXXXX");
		if (!mkdtemp(path))
			exit(1);
	}
	return path;
}

static bool shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool shell(const char *format, ...)
{
	char command[4096];
	va_list list;
	va_start(list, format);
	vsnprintf(command, sizeof command, format, list);
	va_end(list);
	int status = system(command);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void source_root(char *out, size_t bytes)
{
	snprintf(out, bytes, "%s", __FILE__);
	for (int i = 0; i < 3; i++) {
		char *slash = strrchr(out, '/');
		if (!slash) {
			snprintf(out, bytes, ".");
			return;
		}
		*slash = 0;
	}
}

static void check_library(const char *root, int number, const char *compiler, const char *flags)
{
	char path[256], module[64];
	if (!shell("command -v %s >/dev/null", compiler)) {
		printf("%s is not here\n", compiler);
		return;
	}
	snprintf(module, sizeof module, "libtargets%d", number);
	snprintf(path, sizeof path, "%s/%s.so", folder(), module);
	CHECK(shell("%s %s -w -fPIC -shared -o %s %s/tests/c/mark_targets.cpp", compiler, flags, path, root));
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		printf("%s\n", dlerror());
		failures++;
		return;
	}
	int failed = failures;
	const uintptr_t *target_return = dlsym(library, "targets_return"), *target_cfa = dlsym(library, "targets_cfa");
	check_module(module, (void (*)(char *, size_t))dlsym(library, "targets_run"), dlsym(library, "targets_calls"));
	((void (*)(void))dlsym(library, "t_where"))();
	CHECK(seen_return == *target_return && seen_cfa == *target_cfa);
	printf("%s %s: %s\n", compiler, flags, failures == failed ? "same" : "DIFFERS");
}

static void check_program(const char *root, const char *flags)
{
	bool done = shell(
		"cd %s && g++ %s -w -c tests/c/mark_targets.cpp -o %s/t.o && "
		"for f in core/mark/*.c core/mark/*.S core/path/cfi.c core/path/eh_frame.c core/path/module.c "
		"core/base.c core/library.c tests/c/test_mark_calls.c; do "
		"gcc -std=gnu11 -O1 %s -DTARGETS_INSIDE -I. -w -c $f -o %s/inside_$(basename $f).o || exit 1; done && "
		"g++ %s -o %s/mark_inside %s/t.o %s/inside_*.o -ldl",
		root, flags, folder(), flags, folder(), flags, folder(), folder(), folder());
	CHECK(done);
	bool same = done && shell("%s/mark_inside", folder());
	CHECK(same);
	printf("program, g++ %s: %s\n", flags, same ? "same" : "DIFFERS");
}

struct registers {
	uint64_t general[16], flags, pad[7];
	uint64_t vector[32][8], mask[8];
};

static struct registers want, have;
void registers_leaf(void);
void registers_call(int level);

/* registers_leaf writes what it was entered with to `have`; registers_call loads `want` and calls it. r15 and rsp stay
   the caller's; r14 carries the level. */
#define ALL16 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define UPPER16 "16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
__asm__(".text\n.p2align 4\n.type registers_leaf,@function\n.globl registers_leaf\nregisters_leaf:\n"
	"nop\nnop\nnop\nnop\nnop\n"
	"mov %rax,have(%rip)\nmov %rcx,have+8(%rip)\nmov %rdx,have+16(%rip)\nmov %rbx,have+24(%rip)\nmov "
	"%rbp,have+40(%rip)\n"
	"mov %rsi,have+48(%rip)\nmov %rdi,have+56(%rip)\nmov %r8,have+64(%rip)\nmov %r9,have+72(%rip)\nmov "
	"%r10,have+80(%rip)\n"
	"mov %r11,have+88(%rip)\nmov %r12,have+96(%rip)\nmov %r13,have+104(%rip)\npushfq\npop have+128(%rip)\n"
	"cmp $2,%r14d\nje 3f\ncmp $1,%r14d\nje 2f\n"
	".irp n," ALL16 "\nmovups %xmm\\n,have+192+\\n*64(%rip)\n.endr\nret\n"
	"2:.irp n," ALL16 "\nvmovups %ymm\\n,have+192+\\n*64(%rip)\n.endr\nret\n"
	"3:.irp n," ALL16 "," UPPER16 "\nvmovups %zmm\\n,have+192+\\n*64(%rip)\n.endr\n"
	".irp n,0,1,2,3,4,5,6,7\nkmovq %k\\n,have+2240+\\n*8(%rip)\n.endr\nret\n"
	".size registers_leaf,.-registers_leaf\n"
	".p2align 4\n.globl registers_call\nregisters_call:\n"
	"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\nmov %edi,%r14d\n"
	"cmp $2,%r14d\nje 3f\ncmp $1,%r14d\nje 2f\n"
	".irp n," ALL16 "\nmovups want+192+\\n*64(%rip),%xmm\\n\n.endr\njmp 4f\n"
	"2:vzeroupper\n.irp n," ALL16 "\nvmovups want+192+\\n*64(%rip),%ymm\\n\n.endr\njmp 4f\n"
	"3:.irp n," ALL16 "," UPPER16 "\nvmovups want+192+\\n*64(%rip),%zmm\\n\n.endr\n"
	".irp n,0,1,2,3,4,5,6,7\nkmovq want+2240+\\n*8(%rip),%k\\n\n.endr\n"
	"4:push want+128(%rip)\npopfq\n"
	"mov want(%rip),%rax\nmov want+8(%rip),%rcx\nmov want+16(%rip),%rdx\nmov want+24(%rip),%rbx\nmov "
	"want+40(%rip),%rbp\n"
	"mov want+48(%rip),%rsi\nmov want+56(%rip),%rdi\nmov want+64(%rip),%r8\nmov want+72(%rip),%r9\nmov "
	"want+80(%rip),%r10\n"
	"mov want+88(%rip),%r11\nmov want+96(%rip),%r12\nmov want+104(%rip),%r13\n"
	"call registers_leaf\n"
	"cmp $0,%r14d\nje 5f\nvzeroupper\n5:cld\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
_Static_assert(offsetof(struct registers, vector) == 192 && offsetof(struct registers, mask) == 2240, "layout");

static void fill(unsigned seed, int low_width, int high_width)
{
	srandom(seed);
	memset(&want, 0, sizeof want);
	for (int i = 0; i < 16; i++)
		want.general[i] = (uint64_t)random() << 33 ^ (uint64_t)random();
	want.general[4] = want.general[14] = want.general[15] = 0;
	want.flags = 0x202 | ((uint64_t)random() & 0x8d5); /* CF PF AF ZF SF OF */
	for (int i = 0; i < 32; i++)
		for (int w = 0; w < (i < 16 ? low_width : high_width); w++)
			want.vector[i][w] = (uint64_t)random() << 33 ^ (uint64_t)random();
	for (int i = 0; i < 8; i++)
		want.mask[i] = (uint64_t)random() << 33 ^ (uint64_t)random();
	memset(&have, 0, sizeof have);
}

/* Widths in use below and above register 16, in 64-bit words: each combination another path through the save code. */
static void check_registers(const struct stub_guard *guard, int level, bool around)
{
	static const int widths[] = {2, 4, 8};
	int failed = failures;
	for (int low = 0; low <= level; low++)
		for (int high = 0; high <= (level == 2 ? 2 : 0); high++)
			for (unsigned seed = 1; seed < 200; seed++) {
				fill(seed, widths[low], level == 2 ? widths[high] : 0);
				if (level < 2)
					memset(want.mask, 0, sizeof want.mask);
				registers_call(level);
				if (around) /* its frame's own: the function keeps them for it */
					have.general[3] = want.general[3], have.general[5] = want.general[5];
				want.flags &= 0x8d5;
				have.flags &= 0x8d5;
				if (memcmp(&want, &have, sizeof want) && failures - failed < 5) {
					for (size_t i = 0; i < sizeof want / 8; i++)
						if (((uint64_t *)&want)[i] != ((uint64_t *)&have)[i])
							printf("%s level %d word %zu: %lx became %lx\n", guard->name,
							       level, i, ((uint64_t *)&want)[i],
							       ((uint64_t *)&have)[i]);
					failures++;
				}
			}
	printf("registers, %s routine, level %d: %s\n", guard->name, level, failures == failed ? "kept" : "LOST");
}

static struct marked leaf_mark;

/* One routine per process: the function can be patched once. */
static void try_routine(const struct stub_guard *guard, bool around)
{
	int level = !strcmp(guard->name, "sse") ? 0 : !strcmp(guard->name, "avx") ? 1 : vector_level;
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		const char *reason;
		failures = 0;
		vector_level = level;
		stub_use(guard);
		struct mark_function function = {.address = (uintptr_t)registers_leaf};
		if (around)
			CHECK(!patch_around(&function, on_enter, on_leave, &leaf_mark, true, &reason));
		else
			CHECK(!patch_entry(&function, on_entry, &leaf_mark, &reason));
		for (int use = 0; use <= level; use++)
			check_registers(guard, use, around);
		CHECK(leaf_mark.entries > 0 && leaf_mark.entries < 1000000);
		fflush(stdout);
		_exit(failures != 0);
	}
	int status;
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static long quick_entries;

GENERAL_ONLY static void quick(void *context, const uintptr_t *fp)
{
	(void)fp;
	++*(long *)context;
}

__attribute__((noipa)) static int measured(int a)
{
	__asm__ volatile("");
	return a * 3 + 1;
}

static double run_measured(void)
{
	struct timespec start, end;
	volatile int sink = 0;
	double best = 1e9;
	for (int round = 0; round < 5; round++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (int i = 0; i < 2000000; i++)
			sink = sink + measured(i);
		clock_gettime(CLOCK_MONOTONIC, &end);
		double ns = ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / 2e6;
		best = ns < best ? ns : best;
	}
	return best;
}

static void measure_cost(void)
{
	for (size_t i = 0; stub_at(i); i++) {
		const struct stub_guard *guard = stub_at(i);
		int level = !strcmp(guard->name, "avx512") ? 2 : !strcmp(guard->name, "avx") ? 1 : 0;
		if (level > vector_level)
			continue;
		fflush(stdout);
		if (!fork()) {
			const char *reason = NULL;
			double plain = run_measured();
			stub_use(guard);
			struct mark_function function = {.address = (uintptr_t)measured};
			if (patch_entry(&function, quick, &quick_entries, &reason))
				printf("%s\n", reason);
			double patched = run_measured();
			printf("entry stub, %s: %.1f ns\n", guard->name, patched - plain);
			fflush(stdout);
			_exit(0);
		}
		wait(NULL);
	}
}

int main(void)
{
	char root[512];
	source_root(root, sizeof root);
	vector_level = __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") != 0;
	CHECK(!patch_init());
	const struct stub_guard *best = stub_used();
	for (size_t i = 0; stub_at(i); i++) {
		int level = !strcmp(stub_at(i)->name, "avx512") ? 2 : !strcmp(stub_at(i)->name, "avx") ? 1 : 0;
		if (level <= vector_level)
			try_routine(stub_at(i), false), try_routine(stub_at(i), true);
	}
	stub_use(best);
	measure_cost();
	static const char *const flags[] = {
		"-O0 -fcf-protection=none",
		"-O1 -fcf-protection=full",
		"-O2 -fcf-protection=none -fno-omit-frame-pointer",
		"-O2 -fcf-protection=full",
		"-O3 -fcf-protection=none",
		"-O3 -fcf-protection=full -fno-omit-frame-pointer",
	};
	int number = 0;
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		check_library(root, number++, "g++", flags[i]);
		check_library(root, number++, "clang++", flags[i]);
	}
	check_program(root, "-O2 -no-pie -fno-pie");
	check_program(root, "-O2 -pie -fPIE");
	shell("rm -r %s", folder());
	return failures != 0;
}
#endif
