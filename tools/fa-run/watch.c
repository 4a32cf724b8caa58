/*
 * The launcher's only loop. Signals are blocked and taken one by one, never by a handler. What the terminal sends has
 * reached the program already (same process group) and is dropped; what somebody sent to fa-run by kill is handed on.
 * When the program stops for job control, fa-run stops too, so that the shell sees the job stop.
 */
#define _GNU_SOURCE
#include "tools/fa-run/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/trace/reader.h"

#define HANDSHAKE_TICK_NS 20000000
#define HANDSHAKE_LIMIT_NS 1000000000
#define STATUS_TICK_NS 500000000

static sigset_t watched;

void watch_block_signals(sigset_t *before)
{
	sigfillset(&watched);
	static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
	for (size_t i = 0; i < sizeof own_faults / sizeof own_faults[0]; i++)
		sigdelset(&watched, own_faults[i]);
	sigprocmask(SIG_BLOCK, &watched, before);
}

static void hand_on(pid_t pid, const siginfo_t *info)
{
	if (info->si_code > 0 || info->si_pid == pid || info->si_pid == getpid())
		return; /* from the kernel; or the program's own to its parent; or our own SIGPIPE */
	if (info->si_code == SI_QUEUE)
		sigqueue(pid, info->si_signo, info->si_value);
	else
		kill(pid, info->si_signo);
}

static bool in_foreground(void)
{
	int terminal = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool result = terminal >= 0 && tcgetpgrp(terminal) == getpgrp();
	if (terminal >= 0)
		close(terminal);
	return result;
}

static void follow_stop(int signal_number, struct status *status)
{
	/* A plain SIGSTOP may come from a debugger or a script that will continue the program only: there, stay awake. */
	if (signal_number == SIGSTOP && !in_foreground())
		return;
	if (status)
		status_clear(status);
	raise(SIGSTOP);
}

static void handshake(struct recording *recording, const char *library, uint64_t since_start_ns, bool *settled)
{
	*settled = recording_ready(recording);
	if (!*settled && since_start_ns >= HANDSHAKE_LIMIT_NS) {
		recording_explain(recording, library, true, 0);
		*settled = true;
	}
}

int watch_program(pid_t pid, struct recording *recording, const char *library, struct status *status)
{
	uint64_t start_ns = reader_now_ns(), drawn_ns = start_ns;
	bool settled = !recording;
	for (;;) {
		int wait_status;
		pid_t changed = waitpid(pid, &wait_status, WNOHANG | WUNTRACED);
		if (changed == pid && WIFSTOPPED(wait_status)) {
			follow_stop(WSTOPSIG(wait_status), status);
			continue;
		}
		if (changed == pid) {
			if (status)
				status_clear(status);
			if (recording && !settled && !recording_ready(recording))
				recording_explain(recording, library, false, wait_status);
			return wait_status;
		}
		uint64_t time_ns = reader_now_ns();
		if (!settled)
			handshake(recording, library, time_ns - start_ns, &settled);
		if (status && time_ns - drawn_ns >= STATUS_TICK_NS) {
			status_draw(status);
			drawn_ns = time_ns;
		}

		siginfo_t info;
		struct timespec tick = {0, settled ? STATUS_TICK_NS : HANDSHAKE_TICK_NS};
		int signal_number =
			settled && !status ? sigwaitinfo(&watched, &info) : sigtimedwait(&watched, &info, &tick);
		if (signal_number > 0 && signal_number != SIGCHLD)
			hand_on(pid, &info);
	}
}
