"""No cache line is written by two threads on the fast paths of malloc, realloc, free and markers: a trace of every store of two
threads that do the same work, one after the other, is compared line by line."""
import os
import re
import shutil
import subprocess

import pytest

import harness

LINE = 64
RARE = [("stack-check", 1000000)] # a sampled path is walked anew: no fast path


def lines_written(options, folder):
    """{thread: lines it wrote in its counted part}, and how many stores these were."""
    binary = harness.program("lines", libs=("-pthread",))
    environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(harness.LIBRARY),
                   "FA_OPTIONS": harness.option_text([*options, ("output", f"{folder}/x.fatrace")])}
    trace = folder / "trace"
    with open(trace, "wb") as out:
        # Only stores (S) and modifications (M) are kept; what lackey traces goes to standard error, the address comes first
        lackey = subprocess.Popen(["valgrind", "-q", "--tool=lackey", "--trace-mem=yes", "--smc-check=all-non-file", binary],
                                  env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        kept = subprocess.Popen(["grep", "-aE", "^ [SM] "], stdin=lackey.stderr, stdout=out)
        lackey.stderr.close()
        phase = int(lackey.stdout.readline(), 16)
        lackey.stdout.read()
        assert kept.wait(timeout=300) == 0 and lackey.wait(timeout=300) == 0
    written, stores, now = {0: set(), 1: set()}, {0: 0, 1: 0}, 0
    for entry in trace.read_bytes().splitlines():
        match = re.fullmatch(rb" [SM] ([0-9a-f]+),(\d+)", entry)
        if not match:
            continue
        address = int(match[1], 16)
        if address == phase:
            now += 1
        elif now in (1, 3):
            written[now // 2].update(range(address // LINE, (address + int(match[2]) - 1) // LINE + 1))
            stores[now // 2] += 1
    assert now == 4, "the program did not come to its end"
    return written, stores


@pytest.mark.skipif(not shutil.which("valgrind"), reason="package valgrind is not installed")
@pytest.mark.parametrize("stacks", ["none", "full"])
@pytest.mark.parametrize("frames", ["lines_frame@*", "none"])
def test_threads_write_no_line_in_common(built, tmp_path, stacks, frames):
    written, stores = lines_written([("stacks", stacks), ("frame", frames), ("await", "lines_marked"), *RARE], tmp_path)
    assert min(stores.values()) > 4 * 150 * 10, f"too few stores for so many operations: {stores}"
    assert min(map(len, written.values())) > 20
    common = written[0] & written[1]
    assert not common, f"{len(common)} lines are written by both: {sorted(hex(line * LINE) for line in common)[:5]}"
