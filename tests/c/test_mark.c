/*
 * The symbol finder and the patcher on the libraries of this machine: every form of a FUNC spec, next definitions,
 * patched waits of libc (their results, errno, cancellation, calls that libc makes itself), chains of callbacks,
 * refusals, and that nothing calls malloc.
 * Sources: core/mark/finder.c core/mark/finder_next.c core/mark/image.c core/mark/symbols.c core/mark/names.c
 * core/mark/demangle.c core/mark/decode.c core/mark/extent.c core/mark/near.c core/mark/refuse.c core/mark/patch.c
 * core/mark/patch_relocate.c core/mark/patch_scan.c core/mark/patch_index.c core/mark/patch_stub.c core/mark/patch_stub.S core/base.c core/library.c
 * core/mark/patch_run.c core/mark/arguments.c core/mark/got.c core/mark/got_stub.S core/path/cfi.c core/path/eh_frame.c core/path/module.c
 * (no sanitizer)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "core/mark/demangle.h"
#include "core/mark/mark.h"
#include "tests/c/check.h"

extern void *__libc_malloc(size_t bytes), *__libc_calloc(size_t count, size_t bytes),
	*__libc_realloc(void *old, size_t bytes);
static unsigned long allocations;

void *malloc(size_t bytes)
{
	allocations++;
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	allocations++;
	return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
	allocations++;
	return __libc_realloc(old, bytes);
}

static struct mark_function found[4096];
static int found_count;

static bool collect(void *context, const struct mark_function *function)
{
	(void)context;
	if (found_count < (int)(sizeof found / sizeof found[0]))
		found[found_count++] = *function;
	return true;
}

static const char *reason;

static int find(const char *spec)
{
	found_count = 0;
	return finder_each(spec, collect, NULL, &reason);
}

static bool finds(const char *spec, const void *address)
{
	int count = find(spec);
	for (int i = 0; i < found_count; i++)
		if (found[i].address == (uintptr_t)address)
			return true;
	printf("%s: %d found, none at %p (%s)\n", spec, count, address, reason ? reason : "");
	for (int i = 0; i < found_count && i < 5; i++)
		printf("   %s+0x%lx\n", found[i].module_path, found[i].address - found[i].module_base);
	return false;
}

__attribute__((noipa)) static int own_static(int a)
{
	static volatile int kept = 1; /* longer than five bytes, whatever the optimiser does */
	return a + kept;
}

__attribute__((noipa)) int own_global(int a)
{
	return own_static(a) * 2;
}

static void test_finder_plain(void)
{
	char spec[256];
	void *math = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
	CHECK(finds("nanosleep", dlsym(RTLD_DEFAULT, "nanosleep")) && found_count == 1);
	CHECK(found[0].size > 5 && strstr(found[0].module_path, "libc.so.6"));
	CHECK(finds("clock_nanosleep", dlsym(RTLD_DEFAULT, "clock_nanosleep")) && found_count == 1);
	CHECK(finds("pthread_cond_wait", dlsym(RTLD_DEFAULT, "pthread_cond_wait")) && found_count == 1);
	CHECK(finds("memcpy", dlsym(RTLD_DEFAULT, "memcpy")) && found_count == 1); /* an IFUNC */
	CHECK(finds("hypot", dlsym(math, "hypot")));
	CHECK(finds("libm!hypot", dlsym(math, "hypot")) && found_count == 1);
	CHECK(finds("libm.so.6!hypot", dlsym(math, "hypot")));
	CHECK(finds("lib?.so*!hypot", dlsym(math, "hypot")));
	CHECK(finds("*!hypot", dlsym(math, "hypot")));
	CHECK(finds("*/libm.so.6!hypot", dlsym(math, "hypot")));
	CHECK(find("libc!hypot") == 0);
	CHECK(finds("own_global", (void *)own_global) && found_count == 1);
	CHECK(finds("own_static", (void *)own_static) && found_count == 1);
	CHECK(finds("test_mark!own_s*", (void *)own_static));
	CHECK(finds("libc!clock_*", dlsym(RTLD_DEFAULT, "clock_gettime")) && found_count > 4);
	find("libc!nanosleep");
	snprintf(spec, sizeof spec, "libc+0x%lx", found[0].address - found[0].module_base);
	CHECK(finds(spec, dlsym(RTLD_DEFAULT, "nanosleep")) && found_count == 1);
	CHECK(find("no_such_function_anywhere") == 0);
	CHECK(find("libc+0x10") == 0 && strstr(reason, "outside"));
	CHECK(find("libnothere!f") == 0 && strstr(reason, "no module"));
	CHECK(find("libc!") == -EINVAL && find("!f") == -EINVAL && find("libc+0x12g") == -EINVAL &&
	      find("+0x10") == -EINVAL);
	CHECK(find("libc!*") > 2000);
	for (int i = 0; i < found_count; i++)
		for (int j = i + 1; j < found_count; j++)
			if (found[i].address == found[j].address) {
				CHECK(!"an address came twice");
				return;
			}
	if (!access("/usr/lib/debug/.build-id", F_OK) && find("libc!_int_malloc") == 1)
		CHECK(found[0].size > 100); /* by the separate debug file */
}

static void test_finder_next(void)
{
	CHECK(finder_next("nanosleep", 0) == (uintptr_t)dlsym(RTLD_DEFAULT, "nanosleep"));
	CHECK(finder_next("malloc", 0) == (uintptr_t)malloc);
	CHECK(finder_next("malloc", (uintptr_t)&failures) == (uintptr_t)dlsym(RTLD_NEXT, "malloc"));
	CHECK(finder_next("pthread_cond_wait", 0) == (uintptr_t)dlsym(RTLD_DEFAULT, "pthread_cond_wait"));
	CHECK(finder_next("memcpy", (uintptr_t)&failures) == (uintptr_t)dlsym(RTLD_DEFAULT, "memcpy"));
	CHECK(finder_next("no_such_function_anywhere", 0) == 0);
	void *local = dlopen("libresolv.so.2", RTLD_NOW | RTLD_LOCAL);
	CHECK(!local || finder_next("ns_sprintrr", 0) == (uintptr_t)dlsym(local, "ns_sprintrr"));
}

static void test_demangle_path(void)
{
	static const struct {
		const char *linkage, *readable;
	} cases[] = {
		{"_Z8GameLoopv", "GameLoop"},
		{"_ZN2ns5Class6methodEi", "ns::Class::method"},
		{"_ZNK2ns5Class6methodEv", "ns::Class::method"},
		{"_ZN5ClassC1Ev", "Class::Class"},
		{"_ZN2ns5ClassD2Ev", "ns::Class::~Class"},
		{"_ZSt9terminatev", "std::terminate"},
		{"_ZNSt8ios_base4InitC1Ev", "std::ios_base::Init::Init"},
		{"_ZN12_GLOBAL__N_14workEv", "(anonymous namespace)::work"},
		{"_ZL4workv", "work"},
		{"_ZN1AeqERKS_", "A::operator=="},
		{"_Znwm", "operator new"},
		{"_ZN1A3fooB5cxx11Ev", "A::foo[abi:cxx11]"},
		{"_ZN5tokio7runtime4task3raw4poll17h0123456789abcdefE", "tokio::runtime::task::raw::poll"},
		{"_ZN1AIiE3fooEv", NULL}, /* a template */
		{"_Z", NULL},
		{"_ZN", NULL},
		{"_Z99x", NULL},
		{"_ZN4", NULL},
		{"main", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char readable[256];
		bool known = demangle_path(cases[i].linkage, readable, sizeof readable);
		CHECK(known == (cases[i].readable != NULL));
		if (known && cases[i].readable && strcmp(readable, cases[i].readable))
			printf("%s: %s\n", cases[i].linkage, readable), failures++;
	}
	char small[8];
	CHECK(!demangle_path("_ZN2ns5Class6methodEi", small, sizeof small));
}

static void test_finder_demangled(void)
{
	/* Before any C++ library is there, a name that nobody has must not bring one in. */
	CHECK(find("ns::no::such") == 0 && !dlopen("libstdc++.so.6", RTLD_NOLOAD | RTLD_NOW));
	void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		printf("libstdc++.so.6 is not here\n");
		return;
	}
	CHECK(finds("std::terminate", dlsym(library, "_ZSt9terminatev")) && found_count == 1);
	CHECK(finds("std::terminate()", dlsym(library, "_ZSt9terminatev")) && found_count == 1);
	CHECK(finds("_ZSt9terminatev", dlsym(library, "_ZSt9terminatev")) && found_count == 1);
	CHECK(finds("std::ios_base::Init::Init", dlsym(library, "_ZNSt8ios_base4InitC1Ev")));
	CHECK(finds("std::ios_base::Init::~Init", dlsym(library, "_ZNSt8ios_base4InitD1Ev")));
	CHECK(finds("operator new", dlsym(library, "_Znwm")));
	CHECK(finds("operator new(unsigned long)", dlsym(library, "_Znwm")) && found_count == 1);
	CHECK(finds("std::ostream::put(char)", dlsym(library, "_ZNSo3putEc")));
	CHECK(finds("libstdc++!std::chrono::*::now", dlsym(library, "_ZNSt6chrono3_V212system_clock3nowEv")));
	CHECK(finds("std::__cxx11::basic_string<char,*>::append(char const*)",
		    dlsym(library, "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6appendEPKc")));
}

struct tally {
	int entered, left;
};

static void set_errno(void *value, void *unused)
{
	(void)unused;
	errno = (int)(intptr_t)value;
}

/* Callbacks keep to general registers; what they call through the guard may change errno. */
#define GENERAL_ONLY __attribute__((target("general-regs-only")))

GENERAL_ONLY static bool enter(void *context, const uintptr_t *fp, bool returns)
{
	((struct tally *)context)->entered++;
	patch_guarded(set_errno, (void *)1234, NULL);
	if (!fp[1] || !returns)
		failures++;
	return true;
}

GENERAL_ONLY static void leave(void *context, const uintptr_t *fp)
{
	if (!fp[1])
		failures++;
	((struct tally *)context)->left++;
	patch_guarded(set_errno, (void *)4321, NULL);
}

static int around(const char *name, struct tally *tally)
{
	if (find(name) != 1)
		return -ENOENT;
	int error = patch_around(&found[0], enter, leave, tally, true, &reason);
	if (error)
		printf("%s: %s\n", name, reason);
	return error;
}

static struct tally nano, clock_nano, micro, polls, selects, epolls, second;

static void test_around(void)
{
	struct timespec wait = {0, 1000}, wrong = {0, -1};
	unsigned long before = allocations;
	CHECK(!around("libc!nanosleep", &nano));
	CHECK(!around("libc!clock_nanosleep", &clock_nano));
	CHECK(!around("libc!usleep", &micro));
	CHECK(!around("libc!poll", &polls));
	CHECK(!around("libc!select", &selects));
	CHECK(!around("libc!epoll_wait", &epolls));
	CHECK(allocations == before);
	errno = 77;
	CHECK(nanosleep(&wait, NULL) == 0 && errno == 77);
	CHECK(nano.entered == 1 && nano.left == 1 && clock_nano.entered == 1 && clock_nano.left == 1);
	CHECK(nanosleep(&wrong, NULL) == -1 && errno == EINVAL);
	CHECK(usleep(10) == 0 && micro.left == 1 && nano.left == 3 && clock_nano.left == 3); /* within libc */
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL) == EINVAL && clock_nano.left == 4);
	int pipes[2];
	CHECK(!pipe(pipes) && write(pipes[1], "x", 1) == 1);
	struct pollfd ready = {.fd = pipes[0], .events = POLLIN};
	CHECK(poll(&ready, 1, 1000) == 1 && ready.revents == POLLIN && polls.left == 1);
	fd_set set;
	FD_ZERO(&set);
	FD_SET(pipes[0], &set);
	struct timeval limit = {1, 0};
	CHECK(select(pipes[0] + 1, &set, NULL, NULL, &limit) == 1 && FD_ISSET(pipes[0], &set) && selects.left == 1);
	int waiter = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123456789abcdef};
	CHECK(!epoll_ctl(waiter, EPOLL_CTL_ADD, pipes[0], &event));
	event.data.u64 = 0;
	CHECK(epoll_wait(waiter, &event, 1, 1000) == 1 && event.data.u64 == 0x123456789abcdef && epolls.left == 1);
	errno = 0;
	CHECK(epoll_wait(-1, &event, 1, 0) == -1 && errno == EBADF);
	close(waiter), close(pipes[0]), close(pipes[1]);
}

GENERAL_ONLY static void count(void *context, const uintptr_t *fp)
{
	(void)fp;
	++*(int *)context;
}

static void test_chain(void)
{
	struct timespec wait = {0, 1000};
	static int first, other, own; /* counted for good: static */
	int before = nano.left;
	find("libc!nanosleep");
	struct mark_function function = found[0];
	CHECK(!patch_entry(&function, count, &first, &reason));
	CHECK(!patch_around(&function, enter, leave, &second, true, &reason));
	CHECK(!patch_entry(&function, count, &other, &reason));
	CHECK(nanosleep(&wait, NULL) == 0);
	CHECK(first == 1 && other == 1 && second.entered == 1 && second.left == 1 && nano.left == before + 1);
	find("own_static");
	function = found[0];
	CHECK(!patch_entry(&function, count, &own, &reason) && own_global(4) == 10 && own == 1);
	CHECK(!patch_around(&function, enter, leave, &second, true, &reason) && own_global(5) == 12 && own == 2 &&
	      second.left == 2);
}

/* Functions written in assembly, chosen by an IFUNC, and such as the patcher itself calls. */
static void test_busy_functions(void)
{
	static const char *const names[] = {"memset", "strlen", "malloc", "free",  "mmap",   "mprotect",
					    "open",   "read",   "memchr", "qsort", "mempcpy"};
	static int counts[sizeof names / sizeof names[0]];
	char spec[64], text[300];
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(spec, sizeof spec, "libc!%s", names[i]);
		find(spec);
		if (found_count != 1 || patch_entry(&found[0], count, &counts[i], &reason))
			printf("%s: %s\n", spec, reason), failures++;
	}
	void *(*volatile copy)(void *, const void *, size_t) = mempcpy;
	size_t (*volatile length)(const char *) = strlen;
	void *(*volatile fill)(void *, int, size_t) = memset;
	int before = counts[10], lengths = counts[1];
	fill(text, 'x', sizeof text);
	copy(text + 150, text, 149);
	text[299] = 0;
	CHECK(length(text) == 299 && counts[10] > before && counts[0] > 0 && counts[1] > lengths);
}

static void refused(const char *spec, const char *why)
{
	int unused = 0;
	reason = NULL;
	if (find(spec) < 1) {
		printf("%s: not found\n", spec);
		failures++;
		return;
	}
	int error = patch_entry(&found[0], count, &unused, &reason);
	if (error != -ENOTSUP || !reason || !strstr(reason, why))
		printf("%s: %d %s\n", spec, error, reason ? reason : "accepted"), failures++;
}

static void test_refusals(void)
{
	char spec[64];
	int unused = 0;
	/* memcpy is memmove, which mempcpy enters by its middle: here from the copy made when mempcpy was patched. */
	refused("libc!memcpy", "jumps into");
	refused("libc!_setjmp", "returns twice");
	refused("libc!vfork", "returns twice");
	refused("libc!getcontext", "returns twice");
	refused("libc!dlopen", "caller");
	refused("libc!dlsym", "caller");
	refused("ld-linux*!__tls_get_addr", "convention");
	refused("ld-linux*!_dl_*", "dynamic linker");
	find("libc!usleep");
	snprintf(spec, sizeof spec, "libc+0x%lx", found[0].address - found[0].module_base + 16);
	refused(spec, "not the start of a function");
	struct mark_function nowhere = {.address = (uintptr_t)&unused};
	CHECK(patch_entry(&nowhere, count, &unused, &reason) == -ENOTSUP && strstr(reason, "not code"));
	nowhere.address = (uintptr_t)&failures;
	CHECK(patch_entry(&nowhere, count, &unused, &reason) == -ENOTSUP && strstr(reason, "not code"));
}

static int cleaned;

static void clean(void *context)
{
	(void)context;
	cleaned++;
}

static void *sleeper(void *context)
{
	struct timespec wait = {100, 0};
	pthread_cleanup_push(clean, NULL);
	nanosleep(&wait, NULL);
	pthread_cleanup_pop(0);
	return context;
}

/* Leaves a thread behind that lives: the last test. */
static void test_cancel(void)
{
	pthread_t thread;
	void *result = NULL;
	static int unused;
	int entered = nano.entered;
	CHECK(!pthread_create(&thread, NULL, sleeper, NULL));
	while (__atomic_load_n(&clock_nano.entered, __ATOMIC_ACQUIRE) == 0 ||
	       __atomic_load_n(&nano.entered, __ATOMIC_ACQUIRE) == entered)
		sched_yield();
	find("own_global");
	CHECK(patch_entry(&found[0], count, &unused, &reason) == -ENOTSUP && strstr(reason, "other threads"));
	CHECK(!pthread_cancel(thread) && !pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED && cleaned == 1);
	/* The kernel's count follows a join a little later. */
	int error = -1;
	for (int i = 0; i < 1000 && error; i++, usleep(1000))
		error = patch_entry(&found[0], count, &unused, &reason);
	if (error)
		printf("own_global: %s\n", reason);
	CHECK(!error);
	CHECK(own_global(1) == 4);
	CHECK(unused == 1);
}

static volatile bool guarded_is_done;
static sigjmp_buf out_of_handler;

static void jumps_out(int number)
{
	siglongjmp(out_of_handler, number);
}

static void interrupted(void *a, void *b)
{
	(void)a, (void)b;
	raise(SIGUSR1);
	guarded_is_done = true;
}

/* What is guarded may hold locks: a handler that comes meanwhile runs after it, and may jump wherever it likes. */
static void test_jump_out_of_guarded(void)
{
	sigset_t mask;
	signal(SIGUSR1, jumps_out);
	if (!sigsetjmp(out_of_handler, 1)) {
		patch_guarded(interrupted, NULL, NULL);
		CHECK(false);
	}
	CHECK(guarded_is_done && !patch_is_guarded);
	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask) && !sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGTERM));
	signal(SIGUSR1, SIG_DFL);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	unsigned long before = allocations;
	test_demangle_path();
	find("libc!*");
	find("nanosleep");
	finder_next("malloc", 0);
	CHECK(allocations == before);
	test_finder_plain();
	test_finder_next();
	test_finder_demangled();
	CHECK(!patch_init());
	test_around();
	test_chain();
	test_busy_functions();
	test_refusals();
	test_jump_out_of_guarded();
	test_cancel();
	printf("%d failures\n", failures);
	return failures != 0;
}
