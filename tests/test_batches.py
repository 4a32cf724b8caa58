"""Random batches of functions of real programs are patched with counting markers: the programs do what they do without.

`-s` shows what was refused. The long version tries more seeds, larger shares and wrapped calls."""
import shutil
import subprocess
from dataclasses import dataclass

import pytest

import harness
from test_targets import TARGET, steady

pytestmark = pytest.mark.alone  # runs of an engine are compared with each other

MARK = harness.TESTS / "mark"
PYTHON = "/usr/bin/python3"


@dataclass
class Batch:
    functions: int
    asked: int
    bound: int
    calls: int
    leaves: int
    reasons: dict


def compiler_proper():
    """gcc itself only starts this."""
    done = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True)
    return done.stdout.strip()


def work(name):
    """(program and arguments, environment, wrapper) of one deterministic piece of work"""
    source = harness.TESTS / "c" / "test_reader.c"
    if name in TARGET:
        TARGET[name].need()
        return TARGET[name].command(), TARGET[name].environment, TARGET[name].wrapper
    command = {
        "cc1": [compiler_proper(), "-quiet", "-O2", f"-I{harness.ROOT}", "-std=gnu11", str(source), "-o", "/dev/stdout"],
        "python": [PYTHON, str(MARK / "work.py")],
        "sqlite3": ["sqlite3", ":memory:", f".read {MARK / 'work.sql'}"],
        "node": ["node", str(MARK / "work.js")],
    }[name]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return command, lambda folder: {"HOME": folder}, ()


@pytest.fixture(scope="module")
def library(built):
    """Linked from the very objects that the shim is linked from."""
    objects = [*(built / "shim/core/mark").glob("*.o"), built / "shim/core/base.o",
               built / "shim/core/library.o", *(built / f"shim/core/path/{name}.o" for name in ("cfi", "eh_frame", "module"))]
    return harness.compile_to(harness.OUT / "batch.so", [MARK / "batch.c"],
                              ["-g", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden",
                               f"-I{harness.ROOT}"], objects, depends=objects)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """name -> a run without any patch, made once"""
    runs = {}

    def run(name):
        if name not in runs:
            command, environment, wrapper = work(name)
            runs[name] = harness.plain([*wrapper, *command], env=environment(tmp_path_factory.mktemp(name)))
        return runs[name]

    return run


def read_batch(path):
    numbers, reasons = {}, {}
    for line in path.read_text().splitlines():
        word, value, *reason = line.split(" ", 2)
        if word == "reason":
            reasons[reason[0]] = int(value)
        else:
            numbers[word] = int(value)
    numbers.pop("microseconds")
    return Batch(reasons=reasons, **numbers)


def check(name, seed, share, kind, library, undisturbed, folder):
    """`share` is in functions of 10,000."""
    out = folder / "batch"
    command, environment, wrapper = work(name)
    preload = {"LD_PRELOAD": library, "BATCH_OUT": out, "BATCH_SEED": seed, "BATCH_SHARE": share, "BATCH_KIND": kind}
    run = harness.plain([*wrapper, "env", *(f"{k}={v}" for k, v in preload.items()), *command], env=environment(folder), timeout=600)
    plain = undisturbed(name)
    assert run.status == plain.status, harness.text(run.stderr)
    assert steady(run.stdout) == steady(plain.stdout)
    assert steady(run.stderr) == steady(plain.stderr)
    batch = read_batch(out)
    print(f"\n{name}, seed {seed}, {share / 100:g} %, {kind}: {batch.asked} of {batch.functions} functions, "
          f"{batch.calls} calls")
    for reason, count in sorted(batch.reasons.items(), key=lambda item: -item[1]):
        print(f"  {count:6} {100 * count / batch.asked:6.2f} % {reason}")
    assert batch.asked == batch.bound + sum(batch.reasons.values())
    assert batch.bound > batch.asked * 0.6 and batch.calls > 0
    return batch


NAMES = ["godot", "love", "cc1", "python", "sqlite3", "node"]


@pytest.mark.parametrize("name", NAMES)
def test_one_percent(name, library, undisturbed, tmp_path):
    check(name, 1, 100, "entry", library, undisturbed, tmp_path)


@pytest.mark.parametrize("name", ["godot", "python"])
def test_one_percent_wrapped(name, library, undisturbed, tmp_path):
    batch = check(name, 1, 100, "around", library, undisturbed, tmp_path)
    assert 0 < batch.leaves <= batch.calls


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["entry", "around"])
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("name", ["godot", "love"])
def test_many_seeds(name, seed, kind, library, undisturbed, tmp_path):
    check(name, seed, 100, kind, library, undisturbed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["entry", "around"])
@pytest.mark.parametrize("share", [500, 2000, 9000])
@pytest.mark.parametrize("name", NAMES)
def test_large_shares(name, share, kind, library, undisturbed, tmp_path):
    check(name, 1, share, kind, library, undisturbed, tmp_path)
