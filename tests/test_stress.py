"""The first law: live bytes are never reused, under random load, in every mode. A failure prints the seed."""
import pytest

import harness


def stress(shim, mode, seed, threads, operations, **options):
    run = shim.run([harness.program("stress"), seed, threads, operations],
                   {"mode": mode, "frame": "frame_mark@*", **options}, timeout=300)
    assert run.stderr == b""
    if mode == "off":
        return
    assert run.violations("FA901") == run.violations("FA902") == []
    report = run.report
    assert report["totals"]["allocs"] == sum(s["allocs"] for s in report["sites"])
    assert report["totals"]["live_blocks"] <= 4 * threads
    for function in ("make", "resize"):
        assert run.site_sum(function, "live_blocks") == 0
    assert sum(report["verdicts"].values()) == report["totals"]["allocs"]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("mode", ["off", "observe", "route"])
def test_random_load(shim, mode, seed, threads):
    stress(shim, mode, seed, threads, 40000 // threads)


@pytest.mark.parametrize("options", [
    {"stacks": "none"}, {"stacks": "caller"}, {"frame-limit": "1M"}, {"demote-bytes": "1"}, {"promote-frames": "1"},
    {"frame-block": "64"}, {"frame-block": "32768", "pool-block": "8192"}, {"pool-block": "16"},
    {"demote-bytes": "1024G", "frame-limit": "16G"}], ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items()))
def test_random_load_at_odd_limits(shim, options):
    stress(shim, "route", 7, 4, 8000, **options)


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("seed", range(100, 120))
def test_random_load_for_long(shim, mode, seed):
    stress(shim, mode, seed, 1 + seed % 6, 400000)
