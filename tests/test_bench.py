"""The bench's workloads run to their end under the shim, small: they are allocation patterns that no other test has."""
import pytest

import harness

BENCH = harness.ROOT / "bench"
WORKLOADS = ["frame", "mixed", "particles", "pair", "batch", "realloc", "async", "marked", "boundary", "threads-4"]


def workloads():
    return harness.compile_to(harness.OUT / "bench" / "workloads", [BENCH / "workloads.c"],
                              ["-g", "-O2", "-fno-builtin", "-fno-optimize-sibling-calls", "-pthread"])


@pytest.mark.parametrize("stacks", ["full", "none"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_run(shim, name, stacks):
    run = shim.run([workloads(), name, "0.1"], {"frame": "bench_frame", "stacks": stacks})
    assert float(run.stdout) > 0 and run.stderr == b""
    assert run.violations("FA901") == run.violations("FA902") == []


@pytest.mark.parametrize("stacks", ["full", "caller", "none"])
def test_workers_free_while_a_frame_ends(shim, stacks):
    """A frame's end reads the headers of spans whose blocks other threads are freeing at that moment."""
    for _ in range(3):
        shim.run([workloads(), "async", "1"], {"frame": "bench_frame", "stacks": stacks})


def test_containers_run(shim):
    program = harness.compile_to(harness.OUT / "bench" / "containers", [BENCH / "containers.cpp"], ["-g", "-O2"])
    assert float(shim.run([program, "0.1"], {"frame": "bench_frame"}).stdout) > 0
