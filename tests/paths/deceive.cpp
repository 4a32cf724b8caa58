/* What a call-path cache may fall for, over and over in random order, with an allocation at each place: stale return
   addresses in arrays, realigned stacks, other paths to the same depth, frames of every size, jumps, exceptions, signals,
   coroutines, calls that do not return, libraries that take each other's place. */
#include <alloca.h>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#define KEEP __attribute__((noinline))

static thread_local uint32_t seed = 1;
static thread_local volatile uintptr_t kept;
static uint32_t any(uint32_t below)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % below;
}

static KEEP void leaf()
{
	void *block = malloc(16 + any(64));
	kept = (uintptr_t)block;
	free(block);
}

/* By way of a jump: the caller of leaf() is not this function but who called it. */
static KEEP void jump_to_leaf()
{
	kept = kept + 1;
	leaf();
}

/* As many registers pushed as N says, and a frame of that size. */
template <int N> static KEEP void pushes(int depth);
static void (*const sizes[])(int) = {pushes<0>, pushes<1>, pushes<2>, pushes<3>, pushes<4>, pushes<5>};
template <int N> static KEEP void pushes(int depth)
{
	if (N > 0)
		__asm__ volatile("" ::: "rbx");
	if (N > 1)
		__asm__ volatile("" ::: "r12");
	if (N > 2)
		__asm__ volatile("" ::: "r13", "r14");
	if (N > 3)
		__asm__ volatile("" ::: "r15");
	volatile char local[1 + N * N * 8];
	local[N] = (char)depth;
	leaf();
	if (depth > 0)
		sizes[any(6)](depth - 1);
	else
		jump_to_leaf();
	kept = kept + (uintptr_t)local[N];
}

/* The stack above, copied below at a shift: whole chains of return addresses that were true a moment ago. The copy stays
   within this thread's frames: `top` is an address in the outermost one. */
static thread_local uintptr_t *top;
static KEEP void mirror(int words, int shift, int depth)
{
	volatile uintptr_t *copy = (volatile uintptr_t *)alloca((size_t)(words + shift + 1) * sizeof *copy);
	const uintptr_t *above = (const uintptr_t *)__builtin_frame_address(0);
	for (int i = 0; i < words && above + i < top; i++)
		copy[i + shift] = above[i];
	leaf();
	if (depth > 0)
		mirror(4 + (int)any(60), (int)any(9), depth - 1);
	else
		sizes[any(6)](1);
	kept = kept + copy[shift];
}

static KEEP void array(int bytes)
{
	char local[bytes];
	memset(local, bytes, (size_t)bytes);
	jump_to_leaf();
	leaf();
	kept = kept + (uintptr_t)local[bytes / 2];
}

static KEEP __attribute__((force_align_arg_pointer)) void realigned(int depth)
{
	alignas(64) volatile char local[96];
	local[0] = (char)depth;
	if (depth > 0)
		realigned(depth - 1);
	else
		array(16 + (int)any(300));
	leaf();
	kept = kept + (uintptr_t)local[0];
}

static KEEP void deep(int depth)
{
	if (!(depth % 50))
		leaf();
	if (depth)
		deep(depth - 1);
	kept = kept + 1;
}

static thread_local jmp_buf back;
static KEEP __attribute__((noreturn)) void never_returns()
{
	leaf();
	longjmp(back, 1);
}

static KEEP void calls_never_returns(int depth)
{
	if (depth) {
		calls_never_returns(depth - 1);
		kept = kept + 1;
	}
	never_returns();
}

static KEEP void jumps()
{
	if (!setjmp(back))
		calls_never_returns((int)any(5));
	sizes[any(6)]((int)any(3));
}

struct cleans {
	~cleans() { leaf(); }
};
static KEEP void throws(int depth)
{
	cleans on_the_way;
	if (!depth)
		throw depth;
	throws(depth - 1);
	kept = kept + 1;
}

static KEEP void catches()
{
	try {
		throws((int)any(5));
	} catch (int) {
		leaf();
	}
	leaf();
}

static void on_signal(int)
{
	sizes[any(6)](2);
}

static KEEP void signals()
{
	struct sigaction action = {};
	action.sa_handler = on_signal;
	action.sa_flags = any(2) ? SA_ONSTACK : 0;
	sigaction(SIGUSR1, &action, nullptr);
	raise(SIGUSR1);
	leaf();
}

static thread_local ucontext_t scheduler, coroutine;
static void coroutine_main()
{
	for (;;) {
		sizes[any(6)]((int)any(4));
		array(8 + (int)any(100));
		swapcontext(&coroutine, &scheduler);
	}
}

/* Small stacks, unmapped and mapped again at the same place, at an end that is not there any more. */
static KEEP void coroutines()
{
	size_t bytes = 16384 + 4096 * any(3);
	void *stack = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = bytes;
	coroutine.uc_link = &scheduler;
	makecontext(&coroutine, coroutine_main, 0);
	for (uint32_t i = 0; i < 3; i++) {
		swapcontext(&scheduler, &coroutine);
		leaf();
	}
	munmap(stack, bytes);
}

/* Libraries of the same layout but other frames, one after the other at one address. */
static const char *const *libraries;
static KEEP void reload()
{
	void *library = dlopen(libraries[any(2)], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	auto enter = (void (*)(void (*)()))dlsym(library, "enter");
	for (int i = 0; i < 4; i++)
		enter(any(2) ? leaf : jump_to_leaf);
	dlclose(library);
}

static KEEP void round_of_everything(bool main_thread)
{
	switch (any(main_thread ? 60 : 54)) {
	case 0 ... 9: sizes[any(6)]((int)any(12)); break;
	case 10 ... 19: mirror(4 + (int)any(60), (int)any(9), (int)any(4)); break;
	case 20 ... 29: array(8 + (int)any(400)); break;
	case 30 ... 35: realigned((int)any(6)); break;
	case 36 ... 40: jumps(); break;
	case 41 ... 45: catches(); break;
	case 46 ... 51: coroutines(); break;
	case 52 ... 53: deep((int)any(400)); break;
	case 54 ... 57: signals(); break;
	default: reload(); break;
	}
	kept = kept + 1;
}

static void *thread_main(void *given)
{
	uintptr_t here;
	top = &here;
	seed = (uint32_t)(uintptr_t)given;
	for (int i = 0; i < 2000; i++)
		round_of_everything(false);
	return nullptr;
}

int main(int argc, char **argv)
{
	static char alternate[65536];
	stack_t stack = {};
	stack.ss_sp = alternate;
	stack.ss_size = sizeof alternate;
	sigaltstack(&stack, nullptr);
	uintptr_t here;
	top = &here;
	if (argc < 4)
		return 2;
	libraries = argv + 2;
	pthread_t threads[2];
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], nullptr, thread_main, (void *)(i + 7));
	for (int i = 0; i < atoi(argv[1]); i++)
		round_of_everything(true);
	for (pthread_t thread : threads)
		pthread_join(thread, nullptr);
	leaf();
	return 0;
}
