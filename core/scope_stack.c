/* Open scopes of a thread, and how their end is noticed when no return tells it. Inside a patched function: general
   registers only. */
#define _GNU_SOURCE
#include "core/scope_stack.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/mark/mark.h"
#include "core/trace/writer.h"

static bool is_first_thread(const struct base_stretch *stack)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	return (here >= stack->low && here < stack->high) || (!base_forks() && syscall(SYS_gettid) == getpid());
}

/* Of the thread's own stack, once. glibc would read /proc/self/maps for the first thread's. */
static void ask_stack(void *low_found, void *high_found)
{
	pthread_attr_t attributes;
	struct base_stretch first = base_first_stack();
	void *low;
	size_t bytes;
	if (is_first_thread(&first)) {
		*(uintptr_t *)low_found = first.low;
		*(uintptr_t *)high_found = first.high;
		return;
	}
	if (pthread_getattr_np(pthread_self(), &attributes))
		return;
	if (!pthread_attr_getstack(&attributes, &low, &bytes)) {
		*(uintptr_t *)low_found = (uintptr_t)low;
		*(uintptr_t *)high_found = (uintptr_t)low + bytes;
	}
	pthread_attr_destroy(&attributes);
}

static void learn_own_stack(void *low, void *high)
{
	thread_internal_shielded(ask_stack, low, high);
}

static void learn_stack(void *given, void *unused)
{
	struct thread *thread = given;
	(void)unused;
	if (!thread->coroutine && !thread->stack_high)
		learn_own_stack(&thread->stack_low, &thread->stack_high);
}

static bool on_present_stack(const struct thread *thread, uintptr_t address)
{
	return address >= thread->stack_low && address < thread->stack_high;
}

bool scope_on_present_stack(struct thread *thread, uintptr_t address)
{
	if (!thread->stack_high)
		patch_guarded(learn_stack, thread, NULL);
	return on_present_stack(thread, address);
}

bool scope_on_own_stack(struct thread *thread, uintptr_t address)
{
	uintptr_t *low = thread->coroutine ? &thread->own_stack.low : &thread->stack_low;
	uintptr_t *high = thread->coroutine ? &thread->own_stack.high : &thread->stack_high;
	if (!*high)
		patch_guarded(learn_own_stack, low, high);
	return address >= *low && address < *high;
}

/* A word of a stack that may be unmapped by now. */
struct peek {
	uintptr_t at, value;
	bool done, unmapped;
};

static void peek(void *request, void *unused)
{
	(void)unused;
	struct peek *word = request;
	struct iovec to = {&word->value, sizeof word->value}, from = {(void *)word->at, sizeof word->value};
	word->done = process_vm_readv((pid_t)trace_header->pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof word->value;
	word->unmapped = !word->done && errno == EFAULT;
}

/* Scopes of a coroutine's stack that is not the present one are left alone: it may go on. */
static bool is_gone(struct thread *thread, const struct scope_entry *entry, const uintptr_t *fp)
{
	if (scope_stands(thread, entry, fp))
		return false;
	if (on_present_stack(thread, (uintptr_t)fp) && on_present_stack(thread, (uintptr_t)entry->fp))
		return true;
	if (entry->fp == fp)
		return true;
	struct peek word = {.at = (uintptr_t)(entry->fp + 1)};
	patch_guarded(peek, &word, NULL);
	return word.unmapped || (word.done && word.value != entry->return_address);
}

void scope_stack_prune_open(struct thread *thread, const uintptr_t *fp)
{
	while (thread->scope_depth && is_gone(thread, &thread->scopes[thread->scope_depth - 1], fp))
		scope_stack_close_top(thread);
}

static void make_room(void *context, void *unused)
{
	struct thread *thread = context;
	void *memory = base_map(SCOPE_STACK_MAX * sizeof *thread->scopes);
	if (!memory)
		return;
	thread->scopes = memory;
	thread->scope_room = SCOPE_STACK_MAX;
	learn_stack(thread, unused);
}

bool scope_stack_make_room(struct thread *thread)
{
	if (!thread->scopes)
		patch_guarded(make_room, thread, NULL);
	else if (!thread->scope_room) { /* the memory is the slot's, the stack the thread's */
		patch_guarded(learn_stack, thread, NULL);
		thread->scope_room = SCOPE_STACK_MAX;
	}
	if (thread->scope_depth < thread->scope_room)
		return true;
	trace_add(&trace_header->losses[TRACE_LOSS_SCOPES], 1);
	return false;
}

/* Some were opened inside it and have not been closed, or several by the same call. */
void scope_stack_pop_several(struct thread *thread, const uintptr_t *fp)
{
	uint32_t depth = thread->scope_depth;
	while (depth && thread->scopes[depth - 1].fp != fp)
		depth--;
	while (depth && thread->scopes[depth - 1].fp == fp)
		depth--;
	if (!depth && (!thread->scope_depth || thread->scopes[0].fp != fp))
		return;
	while (thread->scope_depth > depth)
		scope_stack_close_top(thread);
}

static void ask_alternate(void *stack, void *unused)
{
	(void)unused;
	sigaltstack(NULL, stack);
}

/* A signal handler that runs on a stack of its own jumps out of it: its frames are gone. A coroutine that jumps to
   another's stack may be jumped back to. */
static bool is_handler_left(uintptr_t frame, uintptr_t sp)
{
	stack_t stack = {.ss_flags = SS_DISABLE};
	patch_guarded(ask_alternate, &stack, NULL);
	uintptr_t low = (uintptr_t)stack.ss_sp, high = low + stack.ss_size;
	return stack.ss_flags & SS_ONSTACK && frame >= low && frame < high && (sp < low || sp >= high);
}

void scope_stack_unwound(struct thread *thread, uintptr_t sp)
{
	while (thread->scope_depth) {
		uintptr_t frame = (uintptr_t)thread->scopes[thread->scope_depth - 1].fp;
		if (on_present_stack(thread, frame) == on_present_stack(thread, sp) ? frame >= sp
										    : !is_handler_left(frame, sp))
			return;
		scope_stack_close_top(thread);
	}
}

bool scope_stack_holds_among(const struct thread *thread, const void *marker)
{
	for (uint32_t i = 0; i < thread->scope_depth; i++)
		if (thread->scopes[i].marker == marker)
			return true;
	return false;
}
