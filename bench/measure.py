"""One run of a program under one variant, and rounds of runs in which the variants take turns.

Only what runs side by side is compared: each round gives one ratio of two variants, and a row's ratio is the median of
them with its quartiles as the spread.
"""
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import allocators


@dataclass
class Sample:
    """What one run took. `printed` is the program's own figure, when it prints one."""
    printed: float
    cpu_s: float
    wall_s: float
    rss_kib: float
    recording_bytes: int


class Launched(NamedTuple):
    """What launch.c writes: wait status, CPU and wall time in microseconds, peak RSS in KiB, picoseconds a step of its loop took."""
    status: int
    cpu_us: int
    wall_us: int
    rss_kib: int
    step_ps: int

    @classmethod
    def read(cls, result):
        return cls(*map(int, result.read_text().split()))


def clean_environment():
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FA_", "MALLOC")) and k != "LD_PRELOAD"}
    return env | {"LC_ALL": "C.UTF-8"}


@contextmanager
def heaptrack_reader(folder):
    """The pipe that heaptrack's recorder writes to, and its interpreter at the other end, as its own launcher does it.
    What the interpreter takes is not counted: it runs beside the program."""
    pipe = folder / "heaptrack.pipe"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR) # neither side waits for the other to open it
    reader = subprocess.Popen([allocators.INTERPRETER], stdin=open(pipe, "rb"), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        yield pipe
    finally:
        os.close(keep)
        reader.wait()
        pipe.unlink()


class Runner:
    """Runs programs in one scratch folder. `last_recording` is what this library wrote last with call paths, `paces`
    how long the processor took for a step before each run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.last_recording = None
        self.paces = []

    def once(self, command, variant="glibc", options=(), env=None, drive=None, cores=None, good=(0,)):
        """Starts `command` and waits for its end; `drive(process)` may talk to it meanwhile and must end it. `cores`: where
        it may run."""
        if variant == "heaptrack":
            with heaptrack_reader(self.folder) as pipe:
                return self.launch(command, variant, options, env, drive, cores, good, pipe)
        recording = Path(tempfile.mkdtemp(dir=self.folder)) / "bench.fatrace"
        return self.launch(command, variant, options, env, drive, cores, good, recording)

    def launch(self, command, variant, options, env, drive, cores, good, recording):
        result, out = self.folder / "result", self.folder / "out"
        own = allocators.environment(variant, options, recording)
        argv = [allocators.OUT / "launch", result, *(f"{k}={v}" for k, v in own.items()), "--", *command]
        with open(out, "wb") as stdout, open(self.folder / "err", "wb") as stderr:
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                       preexec_fn=cores and (lambda: os.sched_setaffinity(0, cores)),
                                       env=clean_environment() | {k: str(v) for k, v in (env or {}).items()})
            if drive:
                drive(process)
            process.wait()
        took = Launched.read(result)
        self.paces.append(took.step_ps)
        if took.status & 0x7f or took.status >> 8 not in good:
            raise RuntimeError(f"{' '.join(map(str, command))} under {variant}: wait status {took.status}: "
                               f"{(self.folder / 'err').read_text(errors='replace')[-500:]}")
        size = 0
        if variant in allocators.OURS and recording.exists():
            size, unused = recording.stat().st_blocks * 512, recording
            if variant == allocators.FULL:
                unused, self.last_recording = self.last_recording, recording
            if unused:
                shutil.rmtree(unused.parent)
        words = out.read_text(errors="replace").split()
        printed = float(words[0]) if words and re.fullmatch(r"\d+\.\d+", words[0]) else None
        return Sample(printed, took.cpu_us / 1e6, took.wall_us / 1e6, took.rss_kib, size)

    def row(self, name, command, variants, rounds, options=(), field="printed", rare=(), **more):
        """`rounds` turns of all variants, each turn begun by another one; those in `rare` run in the first two only."""
        row = Row(name, field)
        for turn in range(rounds):
            order = variants[turn % len(variants):] + variants[:turn % len(variants)]
            for variant in order:
                if variant not in rare or turn < 2:
                    row.add(variant, self.once(command, variant, options, **more))
        return row


class Row:
    """The samples of one program by variant, in the order of the rounds."""

    def __init__(self, name, field):
        self.name, self.field, self.samples = name, field, {}

    def add(self, variant, sample):
        self.samples.setdefault(variant, []).append(sample)

    def values(self, variant, field=None):
        return [getattr(s, field or self.field) for s in self.samples[variant]]

    def median(self, variant, field=None):
        return statistics.median(self.values(variant, field))

    def ratio(self, variant, against):
        """(median, lower quartile, upper quartile) of the rounds' ratios."""
        return spread([a / b for a, b in zip(self.values(variant), self.values(against))])

    def fastest(self, variants):
        return min((v for v in variants if v in self.samples), key=self.median)


def spread(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def slowdown(paces):
    """(median, at worst): how many times its shortest time a step took. What another machine on the same host does on the other half
    of a core is not in OtherLoad."""
    return (statistics.median(paces) / min(paces), max(paces) / min(paces)) if paces else (1.0, 1.0)


class OtherLoad:
    """How many cores everything else on the machine kept busy since this was made."""

    def __init__(self):
        self.begin = self.busy_and_own()

    @staticmethod
    def busy_and_own():
        user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        own = os.times()
        return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK"), sum(own[:4]), time.monotonic()

    def cores(self):
        busy, own, wall = (now - then for now, then in zip(self.busy_and_own(), self.begin))
        return max(0.0, (busy - own) / wall)


def rusage_of(command, **more):
    """(CPU seconds, peak RSS in MiB) of a tool, started as the programs are."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        subprocess.run([str(a) for a in [allocators.OUT / "launch", result, "--", *command]], check=True,
                       stdout=subprocess.DEVNULL, **more)
        took = Launched.read(result)
        if took.status:
            raise RuntimeError(f"{command}: wait status {took.status}")
    return took.cpu_us / 1e6, took.rss_kib / 1024


def wait_until(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.01)
