"""The bench's workloads run to their end under the shim, small: they are allocation patterns that no other test has. And
the bench itself: it measures what it says, judges by the promise's limits, and the README shows what was measured."""
import json
import subprocess
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT))
from bench import measure, output, programs, promises  # noqa: E402

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


@pytest.mark.alone
@pytest.mark.parametrize("stacks", ["full", "caller", "none"])
def test_workers_free_while_a_frame_ends(shim, stacks):
    """A frame's end reads the headers of spans whose blocks other threads are freeing at that moment."""
    for _ in range(3):
        shim.run([workloads(), "async", "1"], {"frame": "bench_frame", "stacks": stacks})


def test_containers_run(shim):
    program = harness.compile_to(harness.OUT / "bench" / "containers", [BENCH / "containers.cpp"], ["-g", "-O2"])
    assert float(shim.run([program, "0.1"], {"frame": "bench_frame"}).stdout) > 0


def bench(*arguments):
    return subprocess.run(["/usr/bin/python3", harness.ROOT / "scripts/bench", *arguments], capture_output=True, text=True,
                          timeout=240, env=harness.clean_environment({"BUILD": harness.BUILD}))


def figures_of(row, folder, *arguments):
    """The JSON of a quick run of one row."""
    out = folder / "bench.json"
    done = bench("--quick", "--no-install", "--rounds", "2", "--only", row, "--json", out, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


@pytest.mark.alone
def test_a_workload_is_measured_and_judged(built, tmp_path):
    figures, text = figures_of("pair", tmp_path)
    variants = figures["rows"][0]["variants"]
    assert {"glibc", "ours none", "ours full", "floor"} <= variants.keys()
    assert variants["floor"]["median"] < variants["glibc"]["median"]
    assert variants["ours full"]["recording_bytes"] > 0 == variants["glibc"]["recording_bytes"]
    usual, worst = figures["machine"]["slowdown"]
    assert 1 <= usual <= worst
    by_number = {p["promise"]: p for p in figures["promises"]}
    assert {"P1", "M2"} <= by_number.keys()
    p1 = by_number["P1"]
    assert p1["state"] == ("pass" if p1["measured"] <= 1.0 else "short") and p1["low"] <= p1["measured"] <= p1["high"]
    assert f"must 1 {p1['state']}" in text


def test_peak_memory_is_the_programs_own(built, tmp_path):
    """A program inherits the peak of what calls exec: a small one must not show Python's."""
    figures, _ = figures_of("pair", tmp_path)
    held = bytearray(64 << 20)
    kept = measure.Runner(tmp_path).once(["/bin/true"])
    assert len(held) and kept.rss_kib < 4096
    assert figures["rows"][0]["variants"]["glibc"]["rss_kib"] < 8192


@pytest.mark.parametrize("kind", ["interpreter", "database", "compiler", "server"])
def test_real_programs_are_measured(built, tmp_path, kind):
    if not programs.ALL[kind](tmp_path, 0.1).installed:
        pytest.skip(f"the program of '{kind}' is not installed")
    figures, _ = figures_of(kind, tmp_path)
    variants = figures["rows"][0]["variants"]
    assert all(variants[v]["median"] > 0.01 for v in ("glibc", "ours none", "ours full"))
    assert [p["state"] in ("pass", "short") for p in figures["promises"] if p["promise"] == "P4"] == [True]


def test_the_full_level_is_measured(built, tmp_path):
    figures, _ = figures_of("full-level", tmp_path)
    assert {p["promise"]: p["state"] in ("pass", "short") for p in figures["promises"]} == {"M3": True, "R2": True, "R2 RSS": True}


@pytest.mark.parametrize("measured, state, aim_state", [(2, "pass", "pass"), (2.1, "pass", "short"), (4, "pass", "short"), (4.1, "short", "short")])
def test_limits(measured, state, aim_state):
    result = promises.Result.of("M3", "row", measured)
    assert (result.state, result.aim_state) == (state, aim_state)


def test_ratios_are_of_runs_side_by_side():
    row = measure.Row("row", "cpu_s")
    for glibc, ours in ((1, 2), (10, 30), (100, 200)):
        row.add("glibc", measure.Sample(None, glibc, 0, 0, 0))
        row.add("ours", measure.Sample(None, ours, 0, 0, 0))
    assert row.ratio("ours", "glibc") == (2, 2, 2.5)


def test_how_much_slower_the_processor_was():
    assert measure.slowdown([500, 350, 700]) == (500 / 350, 2) and measure.slowdown([]) == (1, 1)


def test_a_row_that_does_not_exist_is_bad_usage():
    done = bench("--only", "pairs")
    assert done.returncode == 2 and "unknown row 'pairs'" in done.stderr


def test_the_readme_shows_what_was_measured():
    figures = json.loads(output.JSON.read_text())
    assert output.markdown(figures) in output.README.read_text()
    assert output.PLOT.read_text().startswith("<?xml")
