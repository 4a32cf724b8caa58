"""fa-run's own behaviour: what it refuses, what it lets through untouched, what it passes on, what it leaves behind."""
import errno
import io
import os
import pty
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness

PYTHON = "/usr/bin/python3"
SIGNAL_NAMES = ["TERM", "HUP", "USR1", "USR2", "INT", "QUIT", "ALRM"]


@pytest.fixture
def fa_run(built, tmp_path):
    """Runs fa-run in an empty folder."""

    def run(*arguments, env=None, **keywords):
        keywords.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([str(a) for a in (harness.FA_RUN, *arguments)], capture_output=True, timeout=60,
                              cwd=keywords.pop("cwd", tmp_path), env=harness.clean_environment(env), **keywords)

    return run


def header(recording):
    """The fields of a recording's header that fa-run reads or writes."""
    data = Path(recording).read_bytes()[:88]
    names = ("magic", "version", "header_bytes", "pid", "mode", "stacks", "stacks_asked", "chunk_count", "file_pages",
             "start_unix_ns", "start_ns", "last_ns", "end_ns", "ended", "end_value", "start_ticks")
    return dict(zip(names, struct.unpack("<8s8I4QIiQ", data)))


def recordings(folder):
    return sorted(Path(folder).glob("*.fatrace*"))


# ---- exit status and streams ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("command,status", [
    (["true"], 0),
    (["false"], 1),
    (["sh", "-c", "exit 42"], 42),
    (["sh", "-c", "exit 125"], 125),
    (["sh", "-c", "kill -KILL $$"], 128 + 9),
    (["sh", "-c", "kill -TERM $$"], 128 + 15),
    (["sh", "-c", "kill -SEGV $$"], 128 + 11),
])
def test_exit_status_is_the_programs(fa_run, tmp_path, command, status):
    done = fa_run(*command)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")
    assert len(recordings(tmp_path)) == 1


def test_program_not_found(fa_run):
    for name in ("no-such-program-here", "./neither", "/nor/this"):
        done = fa_run(name)
        assert done.returncode == 127
        assert done.stderr.decode() == f"fa-run: {name}: not found\n"


def test_program_not_executable(fa_run, tmp_path):
    (tmp_path / "plain").write_text("text\n")
    for name in ("./plain", tmp_path):
        done = fa_run(name)
        assert done.returncode == 126
        assert done.stderr.decode() == f"fa-run: {name}: Permission denied\n"


def test_interpreter_missing(fa_run, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = fa_run("./script")
    assert done.returncode == 127 and b"No such file" in done.stderr
    assert recordings(tmp_path) == []


def test_streams_pass_unchanged(fa_run):
    data = bytes(range(256)) * 4096
    done = fa_run("sh", "-c", "cat; printf 'to stderr' >&2", input=data, stdin=None)
    assert (done.stdout, done.stderr, done.returncode) == (data, b"to stderr", 0)


def test_closed_streams_stay_closed(fa_run, tmp_path):
    probe = "import os\nfor n in range(3):\n try: os.fstat(n); open('open%d' % n, 'w')\n except OSError: pass\n"
    line = f"exec {harness.FA_RUN} -o out.fatrace {PYTHON} -c \"$0\" <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line, probe], cwd=tmp_path, env=harness.clean_environment()).returncode == 0
    assert not list(tmp_path.glob("open*"))
    assert header(tmp_path / "out.fatrace")["ended"] == 1


def test_no_descriptor_is_inherited(fa_run):
    command = [PYTHON, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"]
    assert fa_run(*command).stdout == harness.plain(command).stdout


def test_signal_settings_are_inherited(fa_run, tmp_path):
    command = ["sh", "-c", "trap '' USR1 CHLD; exec $0 -o $1 grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"]
    assert fa_run("true").returncode == 0
    direct = harness.plain(["sh", "-c", command[2].replace("$0 -o $1 ", "")]).stdout
    launched = harness.plain([*command, harness.FA_RUN, tmp_path / "grep.fatrace"]).stdout
    assert launched == direct and b"SigIgn" in direct


def test_arguments_and_their_order(fa_run):
    done = fa_run("--mode", "observe", "printf", "%s|", "--mode", "x", "", "-o", "--")
    assert done.stdout == b"--mode|x||-o|--|"
    assert fa_run("--", "echo", "-o").stdout == b"-o\n"


def test_program_knows_its_name(fa_run, tmp_path):
    """libc learns its arguments when it is initialised; a library that loads others before that must not spoil it."""
    program = build(tmp_path, "named", "#include <error.h>\n#include <stdlib.h>\n"
                    "int main(void) { error(3, 0, \"%s\", getenv(\"HOME\")); }")
    done = fa_run("./named", env={"HOME": "/a/home"})
    assert (done.returncode, done.stderr) == (3, b"./named: /a/home\n")


# ---- finding the program --------------------------------------------------------------------------------------------

def test_path_is_searched_as_a_shell_does(fa_run, tmp_path):
    for folder, executable in (("first", False), ("second", True), ("third", True)):
        (tmp_path / folder).mkdir()
        tool = tmp_path / folder / "tool"
        tool.write_text(f"#!/bin/sh\necho {folder}\n")
        tool.chmod(0o755 if executable else 0o644)
    search = ":".join(str(tmp_path / d) for d in ("absent", "first", "second", "third"))
    assert fa_run("tool", env={"PATH": search}).stdout == b"second\n"
    assert fa_run("tool", env={"PATH": f"{tmp_path / 'first'}"}).returncode == 126
    assert fa_run("tool", env={"PATH": "/nowhere:"}, cwd=tmp_path / "third").stdout == b"third\n"
    assert fa_run("", env={"PATH": search}).returncode == 127


def test_file_without_interpreter_line_runs_in_a_shell(fa_run, tmp_path):
    (tmp_path / "bare").write_text('echo "$0 $1"\n')
    (tmp_path / "bare").chmod(0o755)
    assert fa_run("./bare", "argument").stdout == b"./bare argument\n"


def test_script_is_recorded_through_its_interpreter(fa_run, tmp_path):
    script = tmp_path / "script"
    script.write_text(f"#!{PYTHON}\nprint('hello')\n")
    script.chmod(0o755)
    done = fa_run("./script")
    assert (done.stdout, done.stderr) == (b"hello\n", b"")
    assert [re.sub(r"\d+", "N", r.name) for r in recordings(tmp_path)] == ["fa-script-N.fatrace"]


# ---- programs that run untouched ------------------------------------------------------------------------------------

SHOW = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void) { printf("preload=%d\n", getenv("LD_PRELOAD") || getenv("FA_OPTIONS") || getenv("FA_TARGET_PID")); return 3; }
"""
OWN_MALLOC = SHOW + r"""
static char heap[1 << 20]; static size_t used;
void *malloc(size_t n) { void *p = heap + used; used += (n + 15) & ~15ul; return p; }
void free(void *p) { (void)p; }
"""
EXIT_32 = ".globl _start\n_start: mov $1, %eax\n mov $3, %ebx\n int $0x80\n"


def build(folder, name, source, *flags, suffix="c"):
    path = folder / f"{name}.{suffix}"
    path.write_text(source)
    done = subprocess.run(["gcc", "-o", folder / name, path, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / name


def setuid_copy(folder, mode):
    program = build(folder, "privileged", SHOW)
    program.chmod(mode)
    return program


def capable_copy(folder):
    program = build(folder, "capable", SHOW)
    try:
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    except OSError as error:
        pytest.skip(f"file capabilities cannot be set here: {error}")
    return program


def script_for(folder, interpreter):
    script = folder / "script"
    script.write_text(f"#!{interpreter}\n")
    script.chmod(0o755)
    return script


UNTOUCHED = {
    "static": (lambda d: build(d, "fixed", SHOW, "-static"), "is statically linked"),
    "static-pie": (lambda d: build(d, "fixed", SHOW, "-static-pie"), "is statically linked"),
    "32-bit": (lambda d: build(d, "small", EXIT_32, "-m32", "-nostdlib", "-static", suffix="s"), "is a 32-bit program"),
    "setuid": (lambda d: setuid_copy(d, 0o4755), "is setuid"),
    "setgid": (lambda d: setuid_copy(d, 0o2755), "is setgid"),
    "capabilities": (capable_copy, "has file capabilities"),
    "asan": (lambda d: build(d, "checked", SHOW, "-fsanitize=address"), "is built with AddressSanitizer"),
    "asan, linked in": (lambda d: build(d, "checked", SHOW, "-fsanitize=address", "-static-libasan"),
                        "is built with AddressSanitizer"),
    "tsan": (lambda d: build(d, "checked", SHOW, "-fsanitize=thread"), "is built with ThreadSanitizer"),
    "own malloc": (lambda d: build(d, "own", OWN_MALLOC, "-rdynamic", "-fno-builtin"), "exports its own malloc"),
    "script of a static program": (lambda d: script_for(d, build(d, "fixed", SHOW, "-static")), "is statically linked"),
}


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_unsuitable_program_runs_untouched(fa_run, tmp_path, kind):
    make, reason = UNTOUCHED[kind]
    folder = tmp_path / "programs"
    folder.mkdir()
    program = make(folder)
    try:
        native = subprocess.run([program], capture_output=True)
    except OSError as error:
        if kind == "32-bit" and error.errno == errno.ENOEXEC:
            pytest.skip("this kernel runs no 32-bit programs")
        raise
    done = fa_run(program)
    assert done.returncode == native.returncode == 3
    assert done.stdout == native.stdout
    assert done.stdout in (b"preload=0\n", b"")
    assert re.fullmatch(rf"fa-run: \S+ {reason}[^\n]*: it runs untouched and unrecorded\n", done.stderr.decode())
    assert recordings(tmp_path) == []


def test_clean_twin_is_touched(fa_run, tmp_path):
    done = fa_run(build(tmp_path, "ordinary", SHOW))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"preload=1\n", b"")
    assert len(recordings(tmp_path)) == 1


def test_foreign_processor(fa_run, tmp_path):
    program = build(tmp_path, "foreign", SHOW)
    data = bytearray(program.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    program.write_bytes(data)
    done = fa_run(program)
    assert b"is built for another processor than x86-64" in done.stderr
    assert done.returncode == 126


@pytest.mark.parametrize("size", [4, 16, 40, 64, 100, 1000])
def test_damaged_program_does_not_hurt_the_launcher(fa_run, tmp_path, size):
    """The statuses are those of a shell on such a file; 128 + SIGSEGV is the kernel's when segments are missing."""
    program = tmp_path / "damaged"
    program.write_bytes(Path("/bin/true").read_bytes()[:size])
    program.chmod(0o755)
    assert fa_run(program).returncode in (2, 126, 127, 128 + signal.SIGSEGV)


# ---- bad usage ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments,message", [
    (["--mode", "fast"], "bad value 'fast' for 'mode': expected observe|route|off"),
    (["--set", "mdoe=route"], "unknown option 'mdoe': did you mean 'mode'?"),
    (["--set", "mode"], "--set mode: expected KEY=VALUE"),
    (["--budget", "lots"], "bad value 'lots' for 'budget': expected a number of bytes (suffixes K, M, G) from 0 to 1T"),
    (["--budget", "2T"], "bad value '2T' for 'budget'"),
    (["--set", "survival=101"], "bad value '101' for 'survival': expected a percentage from 1 to 100"),
    (["--role", "boss=x"], "bad value 'boss=x' for 'role'"),
    (["--frame", ""], "bad value '' for 'frame'"),
    (["--stacks", "half"], "bad value 'half' for 'stacks': expected full|caller|none"),
    (["--output", "%x"], "bad value '%x' for 'output'"),
    (["--framelimit", "1M"], "unknown option 'framelimit': did you mean 'frame-limit'?"),
    (["--follow=yes"], "option '--follow' takes no value"),
    (["-x"], "unknown option '-x'"),
    (["--output"], "option '--output' needs a value"),
])
def test_bad_usage(fa_run, tmp_path, arguments, message):
    command = [] if arguments == ["--output"] else ["touch", "ran"]
    done = fa_run(*arguments, *command)
    assert done.returncode == 125
    assert done.stderr.decode().startswith(f"fa-run: {message}") and done.stderr.count(b"\n") == 1
    assert not (tmp_path / "ran").exists()


def test_no_command(fa_run):
    done = fa_run("--mode", "route")
    assert done.returncode == 125 and b"no COMMAND given" in done.stderr


@pytest.mark.parametrize("arguments", [
    ["--mode", "enforce"], ["--set", "mode=enforce"],
])
def test_later_options_are_refused(fa_run, tmp_path, arguments):
    done = fa_run(*arguments, "touch", "ran")
    assert done.returncode == 125
    assert re.fullmatch(r"fa-run: [^\n]*; it is not available in this version\n", done.stderr.decode())
    assert not (tmp_path / "ran").exists()


def test_information(fa_run):
    assert fa_run("--help").stdout.startswith(b"Usage: fa-run [options] [--] COMMAND [ARG...]\n")
    assert re.fullmatch(rb"fa-run \(framealloc-shim\) \d+\.\d+\.\d+\n", fa_run("--version").stdout)
    listed = fa_run("--list-options").stdout.decode()
    registry = (harness.ROOT / "core" / "registry")
    keys = re.findall(r'^(?:OPTION|THRESHOLD)\(\w+, "([\w-]+)"', (registry / "options.def").read_text() +
                      (registry / "thresholds.def").read_text(), re.M)
    assert len(keys) > 25
    assert re.findall(r"^  ([\w-]+)=", listed, re.M) == keys


# ---- the environment ------------------------------------------------------------------------------------------------

def environment_of(fa_run, *arguments, env=None):
    done = fa_run(*arguments, "env", env=env)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)


def test_options_reach_the_program(fa_run, tmp_path):
    seen = environment_of(fa_run, "-o", "a,b%%.fatrace", "--frame", "f(int, int)", "--frame", "none", "--role",
                          "worker=Job*", "--budget", "1M", "--set", "hot-loop=5", "--follow")
    assert seen["FA_OPTIONS"] == ("frame=f(int\\, int),frame=none,role=worker=Job*,budget=1M,hot-loop=5,follow=1,"
                                  f"output={str(tmp_path)}/a\\,b%%.fatrace")
    assert header(tmp_path / "a,b%.fatrace")["pid"] == int(seen["FA_TARGET_PID"])
    assert seen["LD_PRELOAD"] == str(harness.LIBRARY)


def test_other_preloads_stay(fa_run, tmp_path):
    other = build(tmp_path, "other.so", "int other;", "-shared", "-fPIC")
    assert environment_of(fa_run, env={"LD_PRELOAD": other})["LD_PRELOAD"] == f"{harness.LIBRARY}:{other}"


def test_environment_options_come_first(fa_run):
    seen = environment_of(fa_run, "--mode", "route", env={"FA_OPTIONS": "mode=observe,budget=5"})
    assert seen["FA_OPTIONS"].startswith("mode=observe,budget=5,mode=route,output=")
    for text, message in (("mode=fast", "FA_OPTIONS: bad value 'fast'"), ("mode=enforce", "FA_OPTIONS: bad value 'enforce'"),
                          ("frame=foo\\", "FA_OPTIONS: a lone backslash at the end")):
        done = fa_run("--set", "stacks=none", "true", env={"FA_OPTIONS": text})
        assert done.returncode == 125 and message in done.stderr.decode() and done.stderr.count(b"\n") == 1


# ---- the recording --------------------------------------------------------------------------------------------------

def test_default_name(fa_run, tmp_path):
    fa_run("true")
    (recording,) = recordings(tmp_path)
    assert recording.name == f"fa-true-{header(recording)['pid']}.fatrace"


def test_name_template(fa_run, tmp_path):
    (tmp_path / "folder").mkdir()
    fa_run("-o", "folder/%e+%p+%%.fatrace", "/bin/true")
    (recording,) = recordings(tmp_path / "folder")
    assert recording.name == f"true+{header(recording)['pid']}+%.fatrace"


@pytest.mark.parametrize("script,ended,value", [("exit 0", 1, 0), ("exit 9", 1, 9), ("kill -KILL $$", 2, 9),
                                                ("kill -TERM $$", 2, 15)])
def test_end_is_noted(fa_run, tmp_path, script, ended, value):
    fa_run("-o", "out.fatrace", "sh", "-c", script)
    seen = header(tmp_path / "out.fatrace")
    assert (seen["magic"], seen["ended"], seen["end_value"]) == (b"FATRACE\n", ended, value)
    assert seen["start_ns"] < seen["end_ns"] <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_finished_recording_is_replaced(fa_run, tmp_path):
    for status in (1, 2):
        fa_run("-o", "out.fatrace", "sh", "-c", f"exit {status}")
        assert header(tmp_path / "out.fatrace")["end_value"] == status
    assert len(recordings(tmp_path)) == 1


def test_live_recording_is_never_replaced(fa_run, shim, tmp_path):
    process = subprocess.Popen([harness.FA_RUN, "-o", "out.fatrace", "sh", "-c", "read line; exit 5"], cwd=tmp_path,
                               stdin=subprocess.PIPE, env=harness.clean_environment())
    harness.wait_for(lambda: harness.is_begun(tmp_path / "out.fatrace"))
    live = header(tmp_path / "out.fatrace")["pid"]
    done = fa_run("-o", "out.fatrace", "touch", "ran")
    assert done.returncode == 125
    assert done.stderr.decode() == (f"fa-run: {tmp_path}/out.fatrace is the recording of process {live}, which still "
                                    "runs: choose another --output\n")
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 5
    assert not (tmp_path / "ran").exists()
    assert header(tmp_path / "out.fatrace")["pid"] == live


def test_what_stands_in_the_way(fa_run, tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("precious")
    for name, status in (("precious", 125), ("link", 125), ("/dev/null", 125), (".", 125), ("empty", 0)):
        done = fa_run("-o", name, "true")
        assert done.returncode == status, (name, done.stderr)
    assert (tmp_path / "precious").read_text() == "data"
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert header(tmp_path / "empty")["magic"] == b"FATRACE\n"


def test_what_a_killed_start_has_left_is_replaced(fa_run, tmp_path):
    fa_run("-o", "out.fatrace", "true")
    data = bytearray((tmp_path / "out.fatrace").read_bytes())
    data[:8] = bytes(8)
    (tmp_path / "out.fatrace").write_bytes(data)
    (tmp_path / "zeros").write_bytes(bytes(len(data)))
    assert fa_run("-o", "out.fatrace", "true").returncode == 0
    assert header(tmp_path / "out.fatrace")["magic"] == b"FATRACE\n"
    assert fa_run("-o", "zeros", "true").returncode == 125 and not any((tmp_path / "zeros").read_bytes())


TAKEN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void begin(int argc, char **argv)
{
	rename("other.fatrace", "out.fatrace");
	setenv("LD_PRELOAD", getenv("REAL_LIBRARY"), 1);
	execvp(argv[0], argv);
}
"""


def test_another_start_takes_the_path_meanwhile(fa_run, tmp_path):
    """Just before the program's own library begins, as of two starts at once: its recording stands beside it, and is found there."""
    process = subprocess.Popen([harness.FA_RUN, "-o", "other.fatrace", "sh", "-c", "read line; exit 5"], cwd=tmp_path,
                               stdin=subprocess.PIPE, env=harness.clean_environment())
    harness.wait_for(lambda: harness.is_begun(tmp_path / "other.fatrace"))
    library = build(tmp_path, "taken.so", TAKEN, "-shared", "-fPIC")
    done = fa_run("--report", "-o", "out.fatrace", "sh", "-c", "exit 6",
                  env={"FA_LIBRARY": library, "REAL_LIBRARY": harness.LIBRARY})
    process.communicate(b"\n", timeout=20)
    assert done.returncode == 6 and b"no recording" not in done.stderr
    assert f"fa-run: recording: {tmp_path}/out.fatrace.1\n" in done.stderr.decode()
    first, second = header(tmp_path / "out.fatrace"), header(tmp_path / "out.fatrace.1")
    assert first["pid"] != second["pid"] and (second["ended"], second["end_value"]) == (1, 6)


def test_exec_in_the_process_begins_another_recording(fa_run, tmp_path):
    done = fa_run("-o", "out.fatrace", "sh", "-c", "exec sh -c 'exit 6'")
    assert done.returncode == 6
    first, second = header(tmp_path / "out.fatrace"), header(tmp_path / "out.fatrace.1")
    assert first["pid"] == second["pid"]
    assert (second["ended"], second["end_value"]) == (1, 6)
    assert (first["ended"], first["end_value"]) == (1, -1)
    assert first["end_ns"] <= second["start_ns"]


def test_the_summary_of_a_program_that_was_replaced_names_what_follows(fa_run, tmp_path):
    """`fa-run python3` where that is a script: the recording at -o is the shell's, and the user looks for Python's."""
    assert fa_run("-o", "out.fatrace", "sh", "-c", "exec env sh -c 'exit 6'").returncode == 6
    (tmp_path / "out.fatrace").rename(tmp_path / "own.7")
    (tmp_path / "out.fatrace.1").rename(tmp_path / "own.7.1")
    (tmp_path / "out.fatrace.2").rename(tmp_path / "own.7.2")
    pages = [subprocess.run([harness.FA_REPORT, name], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
             for name in ("own.7", "own.7.1", "own.7.2")]
    assert re.search(r"^  replaced    by \S+/env, whose recording is own\.7\.1$", pages[0], re.M)
    assert re.search(r"^  replaced    by \S+sh, whose recording is own\.7\.2$", pages[1], re.M)
    assert "replaced" not in pages[2]


def test_mode_off_records_nothing(fa_run, tmp_path):
    done = fa_run("--mode", "off", "sh", "-c", "exit 3")
    assert (done.returncode, done.stderr, recordings(tmp_path)) == (3, b"", [])


# ---- the handshake --------------------------------------------------------------------------------------------------

def test_folder_that_is_not_there(fa_run):
    done = fa_run("-o", "/no/such/folder/out.fatrace", "sh", "-c", "exit 4")
    assert done.returncode == 4
    assert done.stderr.decode() == ("fa-run: cannot record into /no/such/folder: No such file or directory; the program "
                                    "runs unrecorded\n")


@pytest.mark.alone
@pytest.mark.parametrize("script", ["exit 3", "sleep 1.3; exit 3"])
def test_library_that_records_nothing(fa_run, tmp_path, script):
    silent = build(tmp_path, "silent.so", "int silent;", "-shared", "-fPIC")
    done = fa_run("sh", "-c", script, env={"FA_LIBRARY": silent})
    assert done.returncode == 3
    assert re.fullmatch(r"fa-run: no recording: [^\n]+\n", done.stderr.decode())


@pytest.mark.alone
def test_library_that_is_not_loaded(fa_run, tmp_path):
    (tmp_path / "text.so").write_text("no library")
    process = subprocess.Popen([harness.FA_RUN, "cat"], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=harness.clean_environment({"FA_LIBRARY": tmp_path / "text.so"}))
    expected = f"fa-run: no recording: ld.so did not load {tmp_path}/text.so into the program"
    told = io.BytesIO()
    os.set_blocking(process.stderr.fileno(), False)
    harness.wait_for(lambda: told.write(process.stderr.read() or b"") and expected.encode() in told.getvalue())
    assert process.poll() is None # it is told while the program runs
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize("path, reason", [("a" * 300, "File name too long"), ("/proc/recording", "the file system takes no new files there")])
def test_a_path_that_cannot_be_made(fa_run, tmp_path, path, reason):
    done = fa_run("-o", path, "sh", "-c", "exit 3")
    assert done.returncode == 3 and not list(tmp_path.iterdir())
    if os.geteuid() and path[0] == "/": # that is told before the program runs
        reason = "Permission denied"
    assert reason in done.stderr.decode() and done.stderr.count(b"\n") == 1


def test_file_size_limit(fa_run):
    done = fa_run("sh", "-c", "exit 3", preexec_fn=lambda: limit_file_size(4096))
    assert done.returncode == 3
    assert "the file size limit (ulimit -f) is too low" in done.stderr.decode()


@pytest.mark.parametrize("what, mib", [(resource.RLIMIT_AS, 30), (resource.RLIMIT_AS, 60), (resource.RLIMIT_AS, 90),
                                       (resource.RLIMIT_DATA, 5), (resource.RLIMIT_DATA, 30), (resource.RLIMIT_DATA, 90)])
def test_memory_limit(fa_run, what, mib):
    done = fa_run("sh", "-c", "exit 3", preexec_fn=lambda: resource.setrlimit(what, (mib << 20, mib << 20)))
    assert done.returncode == 3
    assert "the address space or data limit (ulimit -v, -d) is too low" in done.stderr.decode()


def limit_file_size(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_library_is_missing(fa_run, tmp_path):
    assert fa_run("true", env={"FA_LIBRARY": "/no/such.so"}).returncode == 125
    alone = shutil.copy(harness.FA_RUN, tmp_path / "fa-run")
    done = subprocess.run([alone, "true"], capture_output=True, env=harness.clean_environment())
    assert done.returncode == 125 and b"libframealloc.so is neither beside fa-run nor in" in done.stderr


def test_installed_layout(built, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib" / "framealloc").mkdir(parents=True)
    tool = shutil.copy(harness.FA_RUN, tmp_path / "bin")
    shutil.copy(harness.LIBRARY, tmp_path / "lib" / "framealloc")
    done = subprocess.run([tool, "-o", "out.fatrace", "true"], cwd=tmp_path, env=harness.clean_environment())
    assert done.returncode == 0 and header(tmp_path / "out.fatrace")["ended"] == 1


# ---- signals and job control ----------------------------------------------------------------------------------------

LISTENER = """
import signal, sys
names = sys.argv[1:]
numbers = [getattr(signal, 'SIG' + n) for n in names]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print('ready', flush=True)
print(signal.Signals(signal.sigwait(numbers)).name, flush=True)
print(sorted(s for s in signal.sigpending()), flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("name", SIGNAL_NAMES)
def test_signal_is_handed_on(built, tmp_path, name):
    process = subprocess.Popen([harness.FA_RUN, PYTHON, "-c", LISTENER, *SIGNAL_NAMES], cwd=tmp_path,
                               stdout=subprocess.PIPE, env=harness.clean_environment())
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, _ = process.communicate(timeout=20)
    assert out.decode() == f"SIG{name}\n[]\n"
    assert process.returncode == 7


def test_signal_that_ends_the_program(built, tmp_path):
    process = subprocess.Popen([harness.FA_RUN, "-o", "out.fatrace", "sh", "-c", "echo ready; exec sleep 60"],
                               cwd=tmp_path, stdout=subprocess.PIPE, env=harness.clean_environment())
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait(20) == 128 + 15


@pytest.mark.alone
def test_stopped_program_alone_does_not_stop_the_launcher(built, tmp_path):
    process = subprocess.Popen([harness.FA_RUN, "sh", "-c", "echo $$; read line; exit 8"], cwd=tmp_path,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=harness.clean_environment())
    pid = int(process.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    harness.wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "T")
    time.sleep(0.2)
    assert Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "S"
    os.kill(pid, signal.SIGCONT)
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 8


class Terminal:
    """A command as the foreground job of a session on a terminal of its own, with its parent watching for stops."""

    SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    for number in (signal.SIGTTOU, signal.SIGINT, signal.SIGQUIT): # a CI job may have been started with these ignored
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.tcsetpgrp(0, os.getpgrp())
        print('\\nended %d' % os.waitstatus_to_exitcode(status), flush=True)
        break
    print('\\nstopped', flush=True)
    os.killpg(job, signal.SIGCONT)
"""

    def __init__(self, folder, command):
        self.output = b""
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execve(PYTHON, [PYTHON, "-c", self.SHELL, *map(str, command)], harness.clean_environment())
        self.pid = pid

    def send(self, data):
        os.write(self.master, data)

    def read_until(self, pattern, seconds=20):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.output):
            assert time.monotonic() < deadline, self.output
            try:
                self.output += os.read(self.master, 65536)
            except OSError:
                break
        assert re.search(pattern, self.output), self.output

    def close(self):
        os.close(self.master)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(built, tmp_path):
    opened = []

    def start(*command):
        opened.append(Terminal(tmp_path, [harness.FA_RUN, *command]))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


COUNTER = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print('ready', flush=True)
while not seen: time.sleep(0.01)
time.sleep(0.2)
print('interrupts', len(seen), flush=True)
sys.exit(9)
"""


@pytest.mark.alone
def test_interrupt_key_reaches_the_program_once(terminal, tmp_path):
    job = terminal("--no-report", "-o", "out.fatrace", PYTHON, "-c", COUNTER)
    job.read_until(rb"ready")
    job.send(b"\x03")
    job.read_until(rb"ended \d+")
    assert b"interrupts 1\r\n" in job.output and b"ended 9" in job.output
    assert header(tmp_path / "out.fatrace")["end_value"] == 9


@pytest.mark.alone
def test_quit_key(terminal, tmp_path):
    job = terminal("--no-report", "-o", "out.fatrace", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 60")
    job.read_until(rb"ready")
    time.sleep(0.2)
    job.send(b"\x1c")
    job.read_until(rb"ended 131")


@pytest.mark.alone
def test_stop_key_and_continue(terminal):
    job = terminal("--no-report", "sh", "-c", "echo ready; read line; exit 4")
    job.read_until(rb"ready")
    job.send(b"\x1a")
    job.read_until(rb"stopped")
    job.send(b"go\n")
    job.read_until(rb"ended 4")


# ---- what is seen on a terminal -------------------------------------------------------------------------------------

@pytest.mark.alone
def test_status_line(terminal):
    job = terminal("--no-report", "--frame", "nanosleep", PYTHON, "-c",
                   "import time\nfor i in range(120): time.sleep(0.01); x = [str(n) for n in range(100)]\n")
    job.read_until(rb"ended 0")
    lines = re.findall(rb"\r(fa-run: [^\r]*?)\x1b\[K", job.output)
    assert lines and re.search(rb"\d+ allocs: frame \d+ % pool \d+ % heap \d+ %  \d+ violation", lines[-1]), job.output
    assert re.search(rb"\r\x1b\[K(fa-run: recording: \S+\.fatrace\r\n)?(\r\n)?.*ended 0", job.output, re.S)


@pytest.mark.alone
def test_quiet_on_a_terminal(terminal):
    job = terminal("--quiet", "sleep", "0.8")
    job.read_until(rb"ended 0")
    assert b"fa-run" not in job.output


@pytest.mark.alone
def test_program_in_raw_mode_keeps_its_screen(terminal):
    job = terminal("--no-report", "sh", "-c", "stty raw; sleep 1.3")
    job.read_until(rb"ended 0")
    assert b"allocs" not in job.output


def test_summary_at_the_end(fa_run, terminal, tmp_path):
    if not harness.FA_REPORT.exists():
        pytest.skip("fa-report is not built")
    done = fa_run("--report", "-o", "out.fatrace", "sh", "-c", "echo out; exit 3")
    direct = subprocess.run([harness.FA_REPORT, "summary", tmp_path / "out.fatrace"], capture_output=True)
    assert done.returncode == 3 and done.stdout == b"out\n"
    assert done.stderr == direct.stdout + f"fa-run: recording: {tmp_path}/out.fatrace\n".encode()
    job = terminal("-o", "two.fatrace", "true")
    job.read_until(rb"ended 0")
    assert f"fa-run: recording: {tmp_path}/two.fatrace".encode() in job.output
    assert len(job.output.splitlines()) > 3


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
