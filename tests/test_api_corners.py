"""Rare ways through the C API: what the program sees, the figures and the findings, with and without the shim."""
import re

import pytest

import harness
from test_api import SANITIZED, build

# case: (standard output before the figures, (frame allocs, frees), (other), frames, (tasks started, ended), polls, misuse),
# findings under the shim
CASES = {
    "boundary-inside": (("mine\n", (2, 2), (0, 0), 1, (0, 0), 0, 0), {}),
    "transfer-twice": (("0 0\n", (0, 0), (1, 1), 0, (0, 0), 0, 0), {}),
    "resize-in-await": (("", (2, 2), (0, 0), 1, (0, 0), 0, 0), {"FA603": 1}),
    "resize-in-task": (("", (3, 3), (0, 0), 1, (1, 1), 1, 0), {}),
    "resize-elsewhere": (("", (2, 2), (0, 0), 1, (0, 0), 0, 0), {}),
    "handed-on": (("", (0, 0), (4, 4), 0, (3, 3), 3, 0), {}),
    "handed-on-by-the-inner": (("", (0, 0), (1, 1), 0, (2, 2), 2, 0), {}),
    "released-and-resized": (("", (0, 0), (2, 2), 0, (1, 1), 1, 0), {"FA704": 1}),
    "no-block": (("0 1\n1\n", (0, 0), (0, 0), 0, (0, 0), 0, 0), {}),
    "promote-nowhere": (("1\n", (0, 0), (1, 1), 0, (0, 0), 0, 0), {}),
    "frame-of-async": (("", (1, 1), (0, 0), 1, (0, 0), 0, 1), {"FA701": 1}),
    "free-twice": (("", (1, 1), (0, 0), 1, (0, 0), 0, 0), {"FA902": 1}),
    "frame-in-await": (("", (3, 3), (0, 0), 1, (0, 0), 0, 1), {"FA001": 1, "FA603": 1}),
    "frame-after-await": (("", (1, 1), (0, 0), 2, (0, 0), 0, 0), {}),
    "guards-and-tasks": (("0 1\n", (0, 0), (2, 2), 0, (1, 1), 2, 1), {"FA705": 1}),
    "vectors": (("77\n", (0, 0), (2, 2), 0, (0, 0), 0, 0), {}),
    "no-name": (("1 1\n", (0, 0), (0, 0), 0, (0, 0), 0, 0), {}),
    "long-name": (("0\n", (0, 0), (0, 0), 0, (0, 0), 0, 0), {}),
    "visits": (("0\n", (0, 0), (300000, 300000), 0, (1, 1), 50000, 0), {}),
    "handed-meanwhile": (("", (0, 0), (160000, 160000), 0, (20000, 20000), 20000, 0), {}),
    "family": (("", (0, 0), (0, 0), 0, (4000, 4000), 2000, 0), {}),
    "many-types": (("", (0, 0), (0, 0), 0, (300, 300), 300, 0), {}),
    "ended-twice": (("0 1 1 0\n", (0, 0), (1, 1), 0, (2, 2), 1, 0), {}),
    "ended-by-two": (("20000\n", (0, 0), (20000, 20000), 0, (20000, 20000), 0, 0), {}),
    "child-of-ended": (("1 1 0\n", (0, 0), (0, 0), 0, (2, 2), 0, 0), {}),
    "child-around-parent": (("0\n", (0, 0), (2, 2), 0, (2, 2), 2, 0), {}),
    "forks-with-handlers": (("0\n", (0, 0), (3, 3), 0, (2, 2), 0, 0), {}),
    "guard-of-a-childs-thread": (("7\n", (0, 0), (0, 0), 0, (0, 0), 0, 0), {}),
    "left-open": (("0\n", (1, 1), (3, 3), 1, (1, 1), 1, 0), {}),
    "forked": (("0 0 1 0 0 mine 3\n", (0, 0), (2, 2), 0, (1, 1), 0, 0), {}),
}
UNDEFINED = {"free-twice"}  # without the shim a freed block is read: AddressSanitizer's to tell


# What other threads do meanwhile is chance, and so are the figures.
RACES = ["guards-elsewhere", "forks-meanwhile", "ended-and-made-anew"]


def text_of(said, frame, other, frames, tasks, polls, misuse):
    return (f"{said}frame {frame[0]} {frame[1]}, other {other[0]} {other[1]}, frames {frames}, "
            f"tasks {tasks[0]} {tasks[1]}, polls {polls}, misuse {misuse}\n").encode()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("flags", [(), ("-O2",)], ids=["O1", "O2"])
def test_without_the_shim(built, case, flags):
    run = harness.plain([build("corners", *flags), case])
    assert (run.status, run.stdout, run.stderr) == (0, text_of(*CASES[case][0]), b"")


@pytest.mark.parametrize("case", sorted(CASES.keys() - UNDEFINED))
def test_sanitized(built, case):
    run = harness.plain([build("corners", SANITIZED, "-fno-sanitize-recover=all"), case])
    assert (run.status, run.stdout, run.stderr) == (0, text_of(*CASES[case][0]), b"")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [{"mode": "observe"}, {"mode": "route"}, {"frame": "present"}, {"frame-scope": "present"}],
                         ids=str)
def test_with_the_shim(shim, case, options):
    expected, findings = CASES[case]
    run = shim.run([build("corners"), case], options)
    assert (run.stdout, run.stderr) == (text_of(*expected), b"")
    told = {v["code"]: v["count"] for v in run.violations()}
    told.pop("FA510", None)  # of speed
    assert told == findings
    assert run.report["frames"]["count"] == expected[3]


@pytest.mark.parametrize("case", RACES)
def test_races(built, shim, case):
    plain, under = harness.plain([build("corners"), case]), shim.run([build("corners"), case])
    assert (plain.status, plain.stdout, plain.stderr) == (0, b"0\n", b"")
    assert (under.status, under.stdout, under.stderr) == (0, b"0\n", b"")


@pytest.mark.parametrize("case", ["guards-elsewhere", "ended-and-made-anew"])
def test_races_sanitized(built, case):
    """Without forks: in the child the sanitizer's own allocator may be locked."""
    run = harness.plain([build("corners", SANITIZED, "-fno-sanitize-recover=all"), case])
    assert (run.status, run.stdout, run.stderr) == (0, b"0\n", b"")


def test_a_child_that_records_keeps_its_parents_tasks(built, tmp_path):
    """A task that the child makes is another one than those that the parent had made."""
    run = harness.plain([harness.FA_RUN, "--quiet", "--follow", "--output", tmp_path / "%p.fatrace", build("corners"), "forked-tasks"])
    assert run.stdout.startswith(b"mine, entered 0, ended 0 0\n") and run.stderr == b""
    reports = [harness.read_report(path) for path in tmp_path.glob("*.fatrace*")]
    assert [(r["tasks"]["started"], r["tasks"]["ended"]) for r in reports] == [(1, 1), (1, 1)]
    assert [v for r in reports for v in r["violations"]] == []


def test_a_child_that_records_has_frames_of_its_own(built, tmp_path):
    """Nothing of what stands for them may be its parent's; nor is memory of its parent's frame anybody's here but its own."""
    run = harness.plain([harness.FA_RUN, "--quiet", "--follow", "--output", tmp_path / "%p.fatrace", build("corners"), "forked-frames"])
    assert run.stdout.startswith(b"frame 0 0\n0\n") and run.stderr == b""
    reports = [harness.read_report(path) for path in tmp_path.glob("*.fatrace*")]
    assert sorted(r["frames"]["count"] for r in reports) == [1, 3]


@pytest.mark.parametrize("operation", ["resize", "promote"])
@pytest.mark.parametrize("tier", [0, 1, 2])
def test_a_block_that_no_thread_has(shim, tier, operation):
    """It was made by a handler in the middle of the shim's own work, and is in no count until it is somebody's."""
    run = shim.run([build("untracked"), tier, operation], {})
    made, left = map(int, run.stdout.split())
    assert made > 1000 and left == 0 and run.report["totals"]["untracked_allocs"] > 10


@pytest.mark.parametrize("options", [{}, {"stacks": "caller"}], ids=["full", "caller"])
def test_a_record_that_comes_to_another_slot(shim, options):
    """What is counted of a block is counted in the slot of who frees it, whoever had its record before."""
    run = shim.run([build("records")], options)
    made, freed = map(int, run.stdout.split())
    sites = [s for s in run.report["sites"] if s["stack"] and s["stack"][0]["function"] == "make"]
    assert sum(s["allocs"] for s in sites) == made
    assert sum(s["frees"] for s in sites) == freed
    assert sum(s["live_blocks"] for s in sites) == made - freed
    assert sum(s["live_bytes"] for s in sites) == 48 * (made - freed)


def test_a_child_hands_on_what_its_parent_made(built, tmp_path):
    """It is in no count of the child's: what the child itself leaves in the task is told all the same."""
    harness.plain([harness.FA_RUN, "--quiet", "--follow", "--output", tmp_path / "%p.fatrace", build("corners"), "forked-hand-on"])
    reports = [harness.read_report(path) for path in tmp_path.glob("*.fatrace*")]
    assert [(v["code"], v["count"], v["bytes"]) for r in reports for v in r["violations"]] == [("FA704", 1, 112)]


@pytest.mark.parametrize("under", [False, True], ids=["plain", "shim"])
def test_a_thread_of_real_time_priority(built, shim, under):
    """It finds the plain form's lock taken by a thread that cannot run before it sleeps."""
    program = [build("real_time")]
    longest_us = int((shim.run(program, {}) if under else harness.plain(program)).stdout)
    if longest_us < 0:
        pytest.skip("no SCHED_FIFO for this user")
    assert longest_us < 500000
