"""Where the instructions of a row go: callgrind over the workload or program, glibc's beside ours.

Not exact for times (callgrind knows no cache misses), but it names the functions, and no other load disturbs it.
"""
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from bench import allocators, parts, programs
from bench.allocators import FULL, NONE, OUT
from bench.instructions import callgrind

TOP = 14
VARIANTS = ("glibc", *allocators.PEERS, NONE, FULL)
SMALL = 0.02


def row_command(row, folder):
    """(command, options, environment) of a row, small."""
    if row == "cpp":
        return [OUT / "containers", SMALL], parts.MARKED, {}
    if row in parts.WORKLOADS:
        return [OUT / "workloads", row, SMALL], parts.MARKED, {}
    if row in programs.ALL and row != "server":
        program = programs.ALL[row](folder, 0.05)
        return program.command, [], program.env
    raise SystemExit(f"bench: no profile of '{row}'")


def functions(file):
    """(total, [(instructions, function)]) of a file of counts. What is inlined into a function counts as its own."""
    text = subprocess.run(["callgrind_annotate", "--threshold=100", file], capture_output=True, text=True, check=True).stdout
    total = re.search(r"^\s*([\d,]+) \([\d.]+%\)\s+PROGRAM TOTALS", text, re.M)
    counts, modules = Counter(), {}
    for digits, name, module in re.findall(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+\S*?:(\S+.*?)(?: \[(.*)\])?$", text, re.M):
        counts[name] += int(digits.replace(",", ""))
        modules[name] = Path(module).name or modules.get(name, "")
    named = [(n, f"{name}  [{modules[name]}]") for name, n in counts.most_common()]
    return int(total.group(1).replace(",", "")), named


def main(row):
    plain = 0
    for variant in VARIANTS:
        if not allocators.available(variant):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            command, options, env = row_command(row, folder)
            env = dict(env) | allocators.environment(variant, options, f"{folder}/%e-%p.fatrace")
            file = callgrind(command, folder, env, timeout=450)[0]
            total, found = functions(file)
        plain = plain or total
        print(f"{row}, {variant}: {total / 1e6:.1f} M instructions, {total / plain:.2f} x glibc's")
        if variant in (NONE, FULL):
            for instructions, name in found[:TOP]:
                print(f"    {instructions / total:6.1%} {instructions / 1e6:8.2f} M  {name}")
    return 0
