"""A program whose every count is known: each number in the JSON is exact, whatever the mode, the threads, the marker,
and however the program ends."""
import signal
import time
from dataclasses import dataclass

import pytest

import harness

VERDICTS = ["died_in_segment", "died_in_frame", "crossed_await", "outlived_frame", "died_elsewhere", "never_died",
            "outside_scopes"]


@dataclass
class Known:
    threads: int = 1
    frames: int = 20
    n: int = 300
    e: int = 7
    l: int = 3
    r: int = 5
    x: int = 4
    g: int = 12
    o: int = 9
    marker: str = "mark"
    end: str = "exit"

    def command(self):
        return [harness.program("known"), *(str(v) for v in vars(self).values())]

    def sites(self):
        """function: (allocs, frees, verdicts)"""
        runs = self.threads * self.frames

        def row(allocs, frees, **verdicts):
            return allocs, frees, {**dict.fromkeys(VERDICTS, 0), **verdicts}

        return {
            "site_n": row(self.n * runs, self.n * runs, died_in_segment=self.n * runs),
            "site_e": row(self.e * runs, self.e * runs, outlived_frame=self.e * runs),
            "site_l": row(self.l * runs, 0, never_died=self.l * runs),
            "site_r": row(self.r * runs, self.r * runs, died_elsewhere=self.r * runs),
            "site_x": row(self.x * runs, self.x * runs, outlived_frame=self.x * runs),
            "site_g": row(self.g * runs, self.g * runs, died_in_segment=self.g * runs),
            "site_o": row(self.o, self.o // 2, outside_scopes=self.o),
        }


def marker_option(known):
    function = "frame_mark" if known.marker == "mark" else "nanosleep"
    return function if known.threads == 1 else f"{function}@*"


def check(known, run):
    report = run.report
    assert report["losses"]["reasons"] == [], report["losses"]
    for function, (allocs, frees, verdicts) in known.sites().items():
        if not allocs:
            continue
        assert run.sites(function), f"no site {function}"
        assert run.site_sum(function, "allocs") == allocs, function
        assert run.site_sum(function, "frees") == frees, function
        assert run.site_sum(function, "live_blocks") == allocs - frees, function
        got = {v: run.site_sum(function, "verdicts", v) for v in VERDICTS}
        assert got == verdicts, function
    # The whole: every site together, verdicts partition the allocations, and the threads' own sums agree.
    totals = report["totals"]
    assert totals["allocs"] == sum(s["allocs"] for s in report["sites"])
    assert totals["frees"] == sum(s["frees"] for s in report["sites"])
    assert totals["live_blocks"] == totals["allocs"] - totals["frees"]
    assert sum(report["verdicts"].values()) == totals["allocs"]
    assert totals["allocs"] == sum(t["allocs"] for t in report["threads"])
    assert totals["frees"] == sum(t["frees"] for t in report["threads"])
    assert totals["allocs"] == sum(report["tiers"][t]["allocs"] for t in ("frame", "pool", "heap"))
    for verdict in ("died_in_frame", "crossed_await", "died_elsewhere", "outlived_frame"):
        assert report["verdicts"][verdict] == sum(row[2][verdict] for row in known.sites().values()), verdict
    # Blocks of libc's own (thread control blocks) are few: nothing else may be counted.
    assert totals["allocs"] - sum(row[0] for row in known.sites().values()) <= 4 * known.threads
    assert report["frames"]["count"] == known.frames + 1
    per_thread = report["frames"]["per_thread"]
    assert [t["count"] for t in per_thread if t["count"]] == [known.frames + 1] * known.threads
    runs = known.threads * known.frames
    counts = {}
    for v in report["violations"]:
        key = v["code"], v["born"]["stack"][0]["function"] if v["born"]["stack"] else None
        counts[key] = counts.get(key, 0) + v["count"]
    lifetime = {k: c for k, c in counts.items() if k[0] in ("FA601", "FA201", "FA205", "FA603")}
    assert lifetime == {k: c for k, c in {
        ("FA601", "site_e"): known.e * runs, ("FA601", "site_l"): known.l * runs,
        ("FA201", "site_r"): known.r * runs, ("FA205", "site_x"): known.x * runs}.items() if c}


def series_check(known, report):
    """Every frame of the program does the same; the first and the last differ by what is carried over."""
    per_frame = known.n + known.e + known.l + known.r + known.x + known.g
    series = report["frames"]["series"]
    assert [f["allocs"] for f in series][:known.frames] == [per_frame] * known.frames
    assert [f["escapes"] for f in series][:known.frames] == [known.e + known.l + known.x] * known.frames
    assert all(f["begin_ns"] <= f["end_ns"] for f in series)
    assert report["frames"]["allocs"]["max"] == report["frames"]["allocs"]["p50"] == per_frame


@pytest.mark.parametrize("via", ["preload", "fa-run"])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_every_count_is_exact(shim, mode, threads, via):
    known = Known(threads=threads)
    run = shim.run(known.command(), {"mode": mode, "frame": marker_option(known)}, via)
    assert (run.stdout, run.stderr) == (b"", b"")
    check(known, run)
    assert run.report["mode"] == mode
    if threads == 1:
        series_check(known, run.report)


@pytest.mark.parametrize("marker", ["sleep", "usleep"])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_frames_by_a_libc_call_also_inside_libc(shim, mode, threads, marker):
    known = Known(threads=threads, marker=marker)
    check(known, shim.run(known.command(), {"mode": mode, "frame": marker_option(known)}))


@pytest.mark.parametrize("stacks", ["caller", "none"])
def test_totals_do_not_depend_on_stacks(shim, stacks):
    known = Known()
    run = shim.run(known.command(), {"frame": "frame_mark", "stacks": stacks})
    report = run.report
    if stacks == "caller":
        check(known, run)
    for verdict in ("outlived_frame", "died_elsewhere"):
        assert report["verdicts"][verdict] == sum(row[2][verdict] for row in known.sites().values())
    assert report["stacks"] == stacks


@pytest.mark.parametrize("known", [
    Known(n=0, l=0, r=0, x=0, g=0, o=0, e=1, frames=1), Known(e=0, l=0, r=0, x=0, g=0, o=0, n=1, frames=1),
    Known(frames=3000, n=40, e=300, l=0, r=0, x=0, g=3), Known(frames=17000, n=3, e=1, l=0, r=0, x=0, g=0),
    Known(frames=400, n=10, e=0, l=30, r=0, x=100, g=0), Known(threads=8, frames=500, n=10, r=40, x=40, e=40, l=1)],
    ids=["one-escape", "one-clean", "much-escaping", "more-frames-than-the-ring", "foreign-holders", "eight-threads"])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_counts_survive_demotion_and_merging(shim, mode, known):
    run = shim.run(known.command(), {"mode": mode, "frame": marker_option(known)})
    if known.frames > 16384:
        assert run.report["losses"]["reasons"] != []
        run.report["losses"]["reasons"] = []
    check(known, run)


@pytest.mark.parametrize("via", ["preload", "fa-run"])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_kill_from_inside(shim, mode, threads, via):
    known = Known(threads=threads, end="kill")
    run = shim.run(known.command(), {"mode": mode, "frame": marker_option(known)}, via, expect=None)
    assert run.status == (-signal.SIGKILL if via == "preload" else 128 + signal.SIGKILL)
    check(known, run)
    assert run.report["target"]["ended"] == ("unknown" if via == "preload" else "signal")


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_kill_from_outside_and_reading_while_it_runs(shim, mode, threads):
    known = Known(threads=threads, end="wait")
    process, recording = shim.start(known.command(), {"mode": mode, "frame": marker_option(known)})
    try:
        assert process.stdout.readline() == b"ready\n"
        living = harness.Run(0, b"", b"", recording)
        assert living.report["target"]["ended"] == "running"
        check(known, living)
    finally:
        process.kill()
        process.communicate()
    dead = harness.Run(process.returncode, b"", b"", recording)
    assert dead.status == -signal.SIGKILL
    check(known, dead)
    assert dead.report["target"]["ended"] == "unknown"


@pytest.mark.alone
def test_killed_at_any_moment_is_readable(shim):
    """Twelve kills at odd moments of a busy run: the recording is there and its sums hold to within one operation a thread."""
    for moment in range(12):
        known = Known(threads=4, frames=1000000, end="wait", l=0)
        process, recording = shim.start(known.command(), {"frame": "frame_mark@*"})
        harness.wait_for(lambda: harness.is_begun(recording))
        time.sleep(0.013 * moment)
        process.kill()
        process.communicate()
        report = harness.read_report(recording)
        assert abs(sum(s["allocs"] for s in report["sites"]) - report["totals"]["allocs"]) <= 8
        assert report["totals"]["live_blocks"] <= report["totals"]["allocs"]


def test_off_records_nothing_and_changes_nothing(shim):
    known = Known()
    run = shim.run(known.command(), {"mode": "off", "frame": "frame_mark"})
    assert (run.stdout, run.stderr) == (b"", b"")
    assert not run.recording.exists() or run.report["totals"]["allocs"] == 0


@pytest.mark.parametrize("kind", ["plain", "frames"])
@pytest.mark.parametrize("stacks", ["none", "full"])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_the_peak_is_found_where_each_thread_stood_as_high_before(shim, mode, stacks, kind):
    run = shim.run([harness.program("peaks"), kind], {"mode": mode, "stacks": stacks, "frame": "frame_mark"})
    totals, usable = run.report["totals"], 2 * 10000 * 1008
    assert 0.95 * usable < totals["peak_bytes"] < 1.01 * usable < totals["peak_bytes"] + totals["peak_error_bytes"]
    if kind == "plain":
        assert 0.9 * usable < sum(s["live_bytes_at_peak"] for s in run.report["sites"]) < 1.01 * usable
