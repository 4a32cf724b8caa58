"""Instructions of each primitive on the hot paths: what no other load of the machine changes.

bench/primitives.c runs under callgrind, once with stacks=none and once with full call paths; `docs/instructions.md` is
the table of what was counted and, with GROWTH, the limit that tests/test_instructions.py holds it to.
"""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import allocators
from bench.allocators import LIBRARY, OUT, ROOT

TABLE = ROOT / "docs/instructions.md"
COUNT = 8192
GROWTH = 1.10
COMPILER = "GCC: (Debian 12" # another one makes other instructions
KINDS = {"none": ["stacks=none"], "full": []}
POLICY = "[markers]\nframe = bench_frame\nawait = bench_awaited\n[region r]\nscope = bench_region\n"
HEAD = """# Instructions on the hot paths

Instructions per operation, counted by callgrind in bench/primitives.c on Debian 12's gcc: `scripts/bench --instructions
--write` makes this table. `tests/test_instructions.py` fails when a figure grows by more than 10 %. *none* and *full* are
the call paths recorded (`--stacks`); calls through the PLT and the hook are part of each figure, the loop is not. What
callgrind cannot see (cache misses, branches mispredicted) is in `make bench`.

| primitive | none | full |
|---|---|---|
"""


class Unavailable(Exception):
    """Callgrind is not installed, or cannot run this library here."""


def callgrind(command, folder, env=(), timeout=300):
    """Runs `command` under callgrind; returns the files of counts it wrote. Patched code is looked at anew."""
    if not shutil.which("valgrind"):
        raise Unavailable("package valgrind is not installed")
    out = folder / "callgrind"
    argv = ["valgrind", "-q", "--tool=callgrind", "--smc-check=all-non-file", f"--callgrind-out-file={out}", *command]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"} # the stack begins below it: a larger one moves what is hashed
    done = subprocess.run([str(a) for a in argv], env=environment | {k: str(v) for k, v in dict(env).items()},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise Unavailable(f"valgrind ends with status {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return sorted(folder.glob("callgrind*"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])


def build():
    compiled_by = subprocess.run(["readelf", "-p", ".comment", LIBRARY], capture_output=True, text=True).stdout
    if COMPILER not in compiled_by:
        raise Unavailable(f"the library was not compiled by {COMPILER}")
    binary = OUT / "primitives"
    OUT.mkdir(parents=True, exist_ok=True)
    if not Path("/usr/include/valgrind/callgrind.h").exists():
        raise Unavailable("package valgrind is not installed")
    subprocess.run(["gcc", "-g", "-O2", "-fno-builtin", "-fno-optimize-sibling-calls", "-pthread", "-o", binary, ROOT / "bench/primitives.c"],
                   check=True, capture_output=True)
    return binary


def count(kind):
    """{primitive: instructions per operation} with the call paths of `kind`."""
    binary = build()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "policy.ini").write_text(POLICY)
        options = [f"policy={folder}/policy.ini", *KINDS[kind], f"output={folder}/%e-%p.fatrace"]
        files = callgrind([binary], folder, {"LD_PRELOAD": LIBRARY, "FA_OPTIONS": allocators.option_text(options)})
        totals = {}
        for file in files:
            text = file.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
            total = re.search(r"^(?:totals|summary): (\d+)$", text, re.M)
            if name and total:
                totals[name.group(1)] = int(total.group(1))
    if "marker: frame boundary" not in totals:
        raise Unavailable("callgrind wrote no counts")
    return per_operation(totals)


def per_operation(totals):
    loop = totals["frame: malloc and free 64 floor"]
    return {name: (total - totals.get(f"{name} floor", loop)) / COUNT for name, total in totals.items()
            if not name.endswith((" floor", "(emptied)"))}


def table(counts):
    return HEAD + "".join(f"| {name} | {counts['none'][name]:.0f} | {counts['full'][name]:.0f} |\n" for name in counts["none"])


def committed():
    """{(primitive, kind): instructions} of the table in docs."""
    rows = re.findall(r"^\| (.*?) \| (\d+) \| (\d+) \|$", TABLE.read_text(), re.M)
    return {(name, kind): int(value) for name, *values in rows for kind, value in zip(KINDS, values)}


def limit(figure):
    """A figure may grow by a tenth, and by what rounding hides."""
    return figure * GROWTH + 1


def main(write):
    counts = {kind: count(kind) for kind in KINDS}
    text = table(counts)
    print(text[text.index("| primitive"):], end="")
    if write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    return 0
