"""What the tests share: building the test programs, running them under the shim, reading what was recorded.

Programs are built from tests/programs into build/tests when a source is newer than the binary, as make would. Nothing
here judges a result: tests do.
"""
import json
import os
import signal
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PROGRAMS = TESTS / "programs"
BUILD = Path(os.environ.get("BUILD", ROOT / "build")).resolve()
OUT = BUILD / "tests"
LIBRARY = BUILD / "libframealloc.so"
FA_RUN = BUILD / "fa-run"
FA_REPORT = BUILD / "fa-report"

# Functions are sites: none may vanish by inlining or tail calls, and no malloc by the compiler's knowledge of it.
C_FLAGS = ["-g", "-O2", "-fno-builtin", "-fno-optimize-sibling-calls", "-Wall", "-Wextra", "-pthread", f"-I{PROGRAMS}"]


def newest(paths):
    return max(p.stat().st_mtime for p in paths)


def compile_to(output, sources, flags=(), libs=(), compiler=None, depends=()):
    """Builds `output` unless it is newer than everything it is made from. Returns its path."""
    sources = [Path(s) for s in sources]
    made_from = sources + [Path(d) for d in depends] + sorted(PROGRAMS.glob("*.h")) + [Path(__file__)]
    if output.exists() and output.stat().st_mtime > newest(made_from):
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    compiler = compiler or ("g++" if sources[0].suffix == ".cpp" else "gcc")
    standard = "-std=gnu++17" if compiler == "g++" else "-std=gnu11"
    scratch = output.with_name(f".{output.name}.{os.getpid()}")
    done = subprocess.run([compiler, standard, *flags, "-o", scratch, *sources, *libs], capture_output=True, text=True)
    assert done.returncode == 0, f"{output.name} does not build:\n{done.stderr}"
    scratch.rename(output)
    return output


def program(name, flags=(), libs=("-ldl",), shared=False):
    """The binary of tests/programs/NAME.c or .cpp."""
    source = next(p for p in (PROGRAMS / f"{name}.c", PROGRAMS / f"{name}.cpp") if p.exists())
    extra = ["-fPIC", "-shared"] if shared else []
    return compile_to(OUT / (f"{name}.so" if shared else name), [source], [*C_FLAGS, *extra, *flags], libs)


def counter():
    """The independent counter preload."""
    return compile_to(OUT / "counter.so", [TESTS / "counter" / "counter.c"],
                      ["-g", "-O2", "-fPIC", "-shared", "-fno-builtin", "-Wall", "-Wextra", "-ftls-model=initial-exec"],
                      ["-ldl"])


def option_text(options):
    """FA_OPTIONS from pairs; a comma inside a value is escaped."""
    return ",".join(f"{key}={str(value).replace(',', chr(92) + ',')}" for key, value in options)


def as_pairs(options):
    """Options come as a dict (a list value repeats its key) or as pairs."""
    if not options:
        return []
    pairs = []
    for key, value in options.items() if isinstance(options, dict) else options:
        pairs += [(key, v) for v in value] if isinstance(value, (list, tuple)) else [(key, value)]
    return pairs


@dataclass
class Run:
    """One finished run. `report` reads the recording with fa-report."""
    status: int
    stdout: bytes
    stderr: bytes
    recording: Path
    seconds: float = 0
    _report: dict = field(default=None, repr=False)

    @property
    def report(self):
        if self._report is None:
            self._report = read_report(self.recording)
        return self._report

    def sites(self, function):
        """Sites whose innermost function is `function`."""
        return [s for s in self.report["sites"] if s["stack"] and s["stack"][0].get("function") == function]

    def site_sum(self, function, *keys):
        return sum(dig(s, *keys) for s in self.sites(function))

    def violations(self, code=None):
        return [v for v in self.report["violations"] if code is None or v["code"] == code]


def dig(tree, *keys):
    for key in keys:
        tree = tree[key]
    return tree


def read_report(recording, status=0):
    """`status`: 1 where its policy denies what fired."""
    done = subprocess.run([FA_REPORT, "summary", recording, "--format", "json"], capture_output=True, timeout=60)
    assert done.returncode == status, f"fa-report: status {done.returncode}: {done.stderr.decode()}"
    return json.loads(done.stdout)


def with_header(recording, copy, field, value, index=0):
    """`copy` made of a recording, with another number in a field of its header, or in one element of it."""
    offset = next(int(line.split()[1]) for line in (TESTS / "golden/layout.txt").read_text().splitlines()
                  if line.startswith(f"trace_header.{field} "))
    data = bytearray(recording.read_bytes())
    struct.pack_into("<Q", data, offset + 8 * index, value)
    copy.write_bytes(data)
    return copy


def is_begun(recording):
    """Whether it can be read: what tells so is written last."""
    return recording.exists() and recording.read_bytes()[:8] == b"FATRACE\n"


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def clean_environment(extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("FA_") and k != "LD_PRELOAD"}
    env["LC_ALL"] = "C.UTF-8"
    env.update({k: str(v) for k, v in (extra or {}).items()})
    return env


def plain(command, env=None, timeout=120, cwd=None, stdin=subprocess.DEVNULL):
    """Runs a command without the shim."""
    begin = time.monotonic()
    done = subprocess.run([str(c) for c in command], capture_output=True, env=clean_environment(env), timeout=timeout,
                          cwd=cwd, stdin=stdin)
    return Run(done.returncode, done.stdout, done.stderr, None, time.monotonic() - begin)


class Shim:
    """Runs programs under the shim with recordings in one folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.count = 0

    def command(self, command, options, via, recording):
        """(argv, environment) of a run by bare preload or by fa-run."""
        pairs = as_pairs(options)
        if via == "preload":
            return command, {"LD_PRELOAD": LIBRARY, "FA_OPTIONS": option_text([*pairs, ("output", recording)])}
        argv = [FA_RUN, "--no-report", "--output", recording]
        for key, value in pairs:
            argv += ["--set", f"{key}={value}"]
        return [*argv, "--", *command], {}

    def start(self, command, options=None, via="preload", env=None, cwd=None, stdin=subprocess.DEVNULL, wrapper=()):
        """Starts a program; returns (process, recording). `wrapper` is a command that starts it and is not recorded."""
        self.count += 1
        recording = self.folder / f"run{self.count}.fatrace"
        argv, own = self.command([str(c) for c in command], options, via, recording)
        if wrapper:
            argv, own = [*wrapper, "env", *(f"{k}={v}" for k, v in own.items()), *argv], {}
        process = subprocess.Popen([str(c) for c in argv], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=clean_environment({**own, **(env or {})}), cwd=cwd or self.folder)
        return process, recording

    def run(self, command, options=None, via="preload", env=None, cwd=None, timeout=120, expect=0, stdin=None, wrapper=()):
        """Runs a program to its end. `expect` is the exit status asserted (None: any)."""
        if isinstance(command, (str, Path)):
            command = [command]
        begin = time.monotonic()
        process, recording = self.start(command, options, via, env, cwd,
                                        subprocess.DEVNULL if stdin is None else subprocess.PIPE, wrapper)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{command}: still running after {timeout} s\n{out[-2000:]}\n{err[-2000:]}") from None
        run = Run(process.returncode, out, err, recording, time.monotonic() - begin)
        if expect is not None:
            assert run.status == expect, f"{command}: status {status_text(run.status)}\n{text(out)}\n{text(err)}"
        return run


def text(data):
    return data[-4000:].decode(errors="replace")


def status_text(status):
    return f"{status} ({signal.Signals(-status).name})" if status < 0 else str(status)


TALLY = ["allocations", "frees", "boundaries", "frees_before_boundary", "scoped_allocations", "scoped_frees",
         "scoped_frees_before_boundary", "unknown_frees", "lost"]


def count_independently(command, boundary, folder, env=None, wrapper=(), **more):
    """Runs a command under the counter. Returns (run, tally as a dict)."""
    out = Path(folder) / "tally"
    run = plain([*wrapper, "env", f"LD_PRELOAD={counter()}", *command],
                env={**(env or {}), "COUNTER_OUT": out, "COUNTER_BOUNDARY": boundary}, **more)
    values = struct.unpack_from(f"<{len(TALLY)}Q", out.read_bytes())
    return run, dict(zip(TALLY, values))
