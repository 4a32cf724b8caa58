/* Start, fork and end of the shim in a process. The first step runs inside somebody's first malloc, possibly the
   loader's: no libc state, no environ yet; the second from our constructor: libc is ready then, the
   other libraries' constructors have run, the program's own have not. */
#define _GNU_SOURCE
#include "core/runtime.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/account.h"
#include "core/api.h"
#include "core/attach.h"
#include "core/automatic.h"
#include "core/bind.h"
#include "core/block.h"
#include "core/coroutine.h"
#include "core/events.h"
#include "core/frames.h"
#include "core/library.h"
#include "core/mark/mark.h"
#include "core/next.h"
#include "core/node.h"
#include "core/path/path.h"
#include "core/policy.h"
#include "core/recording.h"
#include "core/region/region.h"
#include "core/role.h"
#include "core/segment.h"
#include "core/site.h"
#include "core/slot.h"
#include "core/tag.h"
#include "core/task.h"
#include "core/thread.h"
#include "core/tier/heap.h"
#include "core/tier/pool.h"
#include "core/trace/writer.h"
#include "core/violation.h"

struct runtime runtime;
_Atomic uint32_t runtime_phase;

#define NOTICED_WITHIN_NS 1000000000u

static uint32_t starter; /* thread that is inside runtime_start */
static uint32_t process; /* whose memory this is */
static bool is_target; /* it is the process that was to be recorded, not a child of that */
/* Reads zero in the child of a fork. */
static struct fork_page {
	_Atomic uint32_t ours; /* 0: in the child of a fork, until it has a recording of its own */
	_Atomic uint32_t noticer; /* the thread that notices the fork */
	_Atomic uint32_t noticed; /* it has */
} no_fork_page = {.ours = 1}, *fork_page = &no_fork_page;
static bool fork_handlers_ran; /* set in the child by fork(), not by _Fork() or a raw clone */

extern void *__libc_stack_end __attribute__((weak));

char **runtime_arguments(int *count)
{
	if (!&__libc_stack_end || !__libc_stack_end)
		return NULL;
	*count = (int)*(long *)__libc_stack_end;
	return (char **)__libc_stack_end + 1;
}

const char *runtime_environment(const char *name)
{
	int count;
	char **arguments = runtime_arguments(&count);
	if (!arguments)
		return NULL;
	size_t length = base_text_length(name);
	for (char **entry = arguments + count + 1; *entry; entry++) {
		size_t i = 0;
		while (i < length && (*entry)[i] == name[i])
			i++;
		if (i == length && (*entry)[i] == '=')
			return *entry + length + 1;
	}
	return NULL;
}

static void say_bad_option(void *context, const char *line)
{
	(void)context;
	base_say(line);
}

static uint32_t parse_pid(const char *text)
{
	uint32_t value = 0;
	while (*text >= '0' && *text <= '9')
		value = value * 10 + (uint32_t)(*text++ - '0');
	return value;
}

/* Whether the file's NUL-separated entries hold `NAME=value` with this value. */
static bool environment_file_has(const char *path, const char *name, const char *value)
{
	char text[1024];
	int fd = base_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	size_t name_length = base_text_length(name), at = 0; /* `at`: characters of the entry that agree so far */
	bool agrees = true, found = false;
	ssize_t bytes;
	while (!found && (bytes = base_read(fd, text, sizeof text)) > 0)
		for (ssize_t i = 0; i < bytes && !found; i++) {
			if (agrees) {
				char expected = at < name_length    ? name[at]
						: at == name_length ? '='
								    : value[at - name_length - 1];
				agrees = text[i] == expected;
				found = agrees && at > name_length && !expected;
				at++;
			}
			if (!text[i]) {
				at = 0;
				agrees = true;
			}
		}
	base_close(fd);
	return found;
}

/* Whether the shim was loaded into the parent as well: then this process is a child of the recorded one. The launcher
   says it in the environment; without one, the parent's own environment tells. */
static bool find_target(void)
{
	const char *target = runtime_environment("FA_TARGET_PID"), *preload = runtime_environment("LD_PRELOAD");
	if (target)
		return parse_pid(target) == process;
	char path[48];
	size_t n = base_text_copy(path, sizeof path, "/proc/");
	base_text_copy(base_text_number(path + n, (uint32_t)syscall(SYS_getppid)), 16, "/environ");
	return !preload || !environment_file_has(path, "LD_PRELOAD", preload);
}

/* Whether this process is to be left alone. */
static bool steps_aside(void)
{
	if (getauxval(AT_SECURE))
		return true;
	options_init(&runtime.options);
	const char *given = runtime_environment("FA_OPTIONS");
	is_target = find_target();
	if (given)
		options_parse(&runtime.options, given, is_target ? say_bad_option : NULL, NULL);
	if (runtime.options.mode == TRACE_MODE_OFF || !(is_target || runtime.options.follow))
		return true;
	/* A sanitizer's allocator must have the heap to itself. */
	return finder_next("__asan_init", 0) || finder_next("__tsan_init", 0) || finder_next("__msan_init", 0);
}

static void configure(void)
{
	const uint64_t *threshold = runtime.options.threshold;
	runtime.mode = runtime.options.mode;
	runtime.stacks = runtime.options.stacks;
	runtime.frame_block_max = threshold[TRACE_THRESHOLD_FRAME_BLOCK];
	runtime.pool_block_max = threshold[TRACE_THRESHOLD_POOL_BLOCK];
	runtime.hot_loop = threshold[TRACE_THRESHOLD_HOT_LOOP];
	runtime.heap_hot = threshold[TRACE_THRESHOLD_HEAP_HOT];
	runtime.long_lived = threshold[TRACE_THRESHOLD_LONG_LIVED];
	runtime.frame_limit = threshold[TRACE_THRESHOLD_FRAME_LIMIT];
	runtime.demote_bytes = threshold[TRACE_THRESHOLD_DEMOTE_BYTES];
	runtime.promote_frames = threshold[TRACE_THRESHOLD_PROMOTE_FRAMES];
	runtime.frame_budget = threshold[TRACE_THRESHOLD_FRAME_BUDGET];
}

static void make_fork_page(void)
{
	struct fork_page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK) == 0) {
		atomic_store(&page->ours, 1);
		fork_page = page;
	}
}

/* A recording and everything that is indexed by it, from nothing. */
static enum runtime_phase begin_recording(void)
{
	if (recording_open(process, is_target) == -ENOMEM || segment_init() || node_init() || site_init() ||
	    violation_init())
		return RUNTIME_UNRECORDED;
	recording_describe(process);
	account_begin_recording();
	if (thread_init())
		return RUNTIME_UNRECORDED;
	for (int i = 0; i < 8; i++) /* the recording is whole from here on */
		trace_header->magic[i] = TRACE_MAGIC[i];
	return RUNTIME_RECORDING;
}

/* Before the first thread attaches: what it does is recorded whole, or by sums only. */
static void begin_events(void)
{
	int error = events_open();
	if (!error) {
		trace_header->level_full = 1;
		events_recording(trace_path());
	} else if (error == -ENOENT) {
		base_say("level=full: only fa-run can take the events; this run is recorded at level summary");
	} else if (error == -EACCES) {
		base_say("level=full: fa-run's memory for events cannot be reached; this run is recorded at level "
			 "summary");
	}
}

static enum runtime_phase start(void)
{
	process = (uint32_t)syscall(SYS_getpid);
	next_init();
	if (steps_aside())
		return RUNTIME_ASIDE;
	recording_note_start();
	const uint64_t *random = (const uint64_t *)getauxval(AT_RANDOM);
	block_secret = (random ? random[1] : (uintptr_t)&process >> 4) << 48;
	block_birth_secret =
		((random ? random[0] : (uintptr_t)&process * 0x9e3779b97f4a7c15u) & -(1ull << BLOCK_SEGMENT_SHIFT)) |
		BLOCK_LIVES;
	pool_init();
	block_span_base = block_state_base(BLOCK_IN_SCOPE);
	if (region_init())
		return RUNTIME_ASIDE;
	configure();
	make_fork_page();
	enum runtime_phase phase = begin_recording();
	if (phase == RUNTIME_RECORDING && runtime.options.level_full)
		begin_events();
	return phase;
}

void runtime_start(void)
{
	if (atomic_load_explicit(&runtime_phase, memory_order_acquire) > RUNTIME_STARTING)
		return;
	uint32_t cold = RUNTIME_COLD, self = (uint32_t)syscall(SYS_gettid);
	if (atomic_compare_exchange_strong(&runtime_phase, &cold, RUNTIME_STARTING)) {
		int saved = errno;
		starter = self;
		enum runtime_phase phase = start();
		atomic_store_explicit(&runtime_phase, phase, memory_order_release);
		errno = saved;
		return;
	}
	for (unsigned turn = 0;
	     starter != self && atomic_load_explicit(&runtime_phase, memory_order_acquire) == RUNTIME_STARTING; turn++)
		base_wait(turn);
}

static void note_fork(void)
{
	fork_handlers_ran = true;
}

/* What the policy says and the options left open. The thread of the first allocation was attached without it. */
static void take_policy(void)
{
	enum trace_stacks asked = runtime.stacks;
	policy_load();
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		if (policy_in_force.threshold_given[i] && !runtime.options.threshold_given[i])
			runtime.options.threshold[i] = policy_in_force.threshold[i];
	if (policy_in_force.mode_given && !runtime.options.mode_given && policy_in_force.mode != TRACE_MODE_OFF)
		runtime.options.mode = policy_in_force.mode;
	if (policy_in_force.stacks_given && !runtime.options.stacks_given)
		runtime.options.stacks = policy_in_force.stacks;
	configure();
	if (runtime.stacks != asked && !thread_take_stacks()) {
		runtime.stacks = TRACE_STACKS_CALLER;
		trace_loss(TRACE_LOSS_STACKS, 1);
	}
	policy_begin_recording();
	tag_begin_recording();
	task_begin_recording();
	trace_header->mode = runtime.mode;
	trace_header->stacks = runtime.stacks;
	trace_header->stacks_asked = runtime.options.stacks;
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		trace_header->thresholds[i] = runtime.options.threshold[i];
	if (thread_self->gate & THREAD_READY)
		role_named(thread_self, NULL);
}

void runtime_finish_start(bool served_by_us)
{
	runtime_start();
	enum runtime_phase phase = (enum runtime_phase)atomic_load(&runtime_phase);
	if (phase != RUNTIME_ASIDE)
		heap_begin();
	if (phase != RUNTIME_RECORDING)
		return;
	thread_internal_begin();
	if (!served_by_us)
		library_load_none();
	if (thread_self->gate == 0)
		thread_attach(0, TRACE_ROLE_NONE);
	pthread_atfork(NULL, NULL, note_fork);
	take_policy();
	path_check_every((uint32_t)runtime.options.threshold[TRACE_THRESHOLD_STACK_CHECK]);
	if (runtime.stacks == TRACE_STACKS_FULL && path_init(runtime.options.threshold[TRACE_THRESHOLD_STACK_DEPTH])) {
		runtime.stacks = TRACE_STACKS_CALLER;
		trace_header->stacks = TRACE_STACKS_CALLER;
		trace_loss(TRACE_LOSS_UNWINDER, 1);
	}
	if (runtime.stacks != TRACE_STACKS_FULL)
		path_modules_refresh();
	node_modules_sync();
	bind_markers();
	node_modules_sync();
	mprotect(&runtime, sizeof runtime, PROT_READ);
	thread_internal_end();
}

void runtime_end(int status, bool status_known)
{
	/* Who may not ask for its pid is taken for no vfork child. */
	if (atomic_load(&runtime_phase) != RUNTIME_RECORDING || runtime_forked() ||
	    (!base_spares_calls() && !runtime_owns_memory()))
		return;
	node_modules_sync();
	automatic_finish();
	task_finish();
	slot_note_path_stats();
	trace_header->end_ns = trace_header->last_ns = base_now_ns();
	trace_header->end_value = status_known ? status : -1;
	__atomic_store_n(&trace_header->ended, TRACE_ENDED_EXIT, __ATOMIC_RELEASE);
}

enum runtime_phase runtime_current(void)
{
	runtime_start();
	if (unlikely(runtime_is_new_child()))
		runtime_child();
	if (unlikely(runtime_is_new_child())) /* somebody is still at it: what the phase says may be the parent's */
		return RUNTIME_UNRECORDED;
	return (enum runtime_phase)atomic_load_explicit(&runtime_phase, memory_order_acquire);
}

bool runtime_owns_memory(void)
{
	return runtime_current() > RUNTIME_STARTING && (uint32_t)syscall(SYS_getpid) == process;
}

bool runtime_forked(void)
{
	return !atomic_load_explicit(&fork_page->ours, memory_order_relaxed);
}

bool runtime_is_new_child(void)
{
	return runtime_forked() && !atomic_load_explicit(&fork_page->noticed, memory_order_acquire);
}

static void notice_fork(void)
{
	int saved = errno;
	atomic_store(&runtime_phase, RUNTIME_UNRECORDED);
	process = (uint32_t)syscall(SYS_getpid);
	is_target = false;
	base_child();
	events_child();
	node_child();
	site_child();
	violation_child();
	frames_child();
	coroutine_child();
	task_child();
	thread_child();
	trace_child(runtime.options.follow);
	if (!fork_handlers_ran)
		heap_child();
	fork_handlers_ran = false;
	if (!runtime.options.follow || base_spares_calls()) {
		trace_child_opened(false);
		errno = saved;
		return;
	}
	/* The parent's counts are none of ours; its blocks live on here uncounted. */
	segment_child();
	enum runtime_phase phase = begin_recording();
	trace_child_opened(phase == RUNTIME_RECORDING);
	if (phase == RUNTIME_RECORDING) {
		node_modules_sync();
		policy_begin_recording();
		tag_begin_recording();
		task_begin_recording();
		bind_child();
		api_child();
	}
	atomic_store_explicit(&runtime_phase, phase, memory_order_release);
	atomic_store(&fork_page->ours, 1);
	errno = saved;
}

/* A thread that was made past pthread_create may come by at the same time: it waits, but not for good, since it may have the loader's
   lock, which the one that notices needs in the end. */
void runtime_child(void)
{
	int saved = errno;
	uint32_t nobody = 0, self = (uint32_t)syscall(SYS_gettid);
	uint64_t signals =
		base_shut_signals(BASE_NO_SIGNALS); /* a handler would find some of it as the parent has left it */
	bool is_noticer = atomic_compare_exchange_strong(&fork_page->noticer, &nobody, self);
	if (is_noticer) {
		if (atomic_load(&runtime_phase) == RUNTIME_RECORDING)
			notice_fork();
		else
			base_child();
		atomic_store(&fork_page->noticed, 1);
	}
	base_let_signals(signals);
	if (!is_noticer && nobody != self) { /* else in the handler of a fault meanwhile */
		base_child_thread();
		uint64_t until = base_now_ns() + NOTICED_WITHIN_NS;
		for (unsigned turn = 0; !atomic_load(&fork_page->noticed) && base_now_ns() < until; turn++)
			base_wait(turn);
	}
	errno = saved;
}
