"""fork and its relatives while other threads are inside the allocator: children run untouched, the parent stays exact."""
import pytest

import harness

KINDS = ["fork", "_fork", "clone", "vfork", "spawn", "system", "popen"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_children_of_every_kind(shim, mode, kind):
    rounds = 150 if kind in ("fork", "_fork", "clone") else 25
    run = shim.run([harness.program("fork_storm"), kind, rounds], {"mode": mode, "frame": "frame_mark@*"}, timeout=60)
    assert run.stderr == b""
    assert run.violations("FA901") == run.violations("FA902") == []
    recordings = list(run.recording.parent.glob("*.fatrace*"))
    assert recordings == [run.recording], "a child wrote a recording unasked"
    totals = run.report["totals"]
    assert totals["allocs"] == sum(s["allocs"] for s in run.report["sites"])


def test_children_record_when_asked(built, tmp_path):
    pattern = tmp_path / "%e-%p.fatrace"
    env = {"LD_PRELOAD": harness.LIBRARY, "FA_OPTIONS": f"follow=1,frame=frame_mark,output={pattern}"}
    run = harness.plain([harness.program("fork_storm"), "fork", 3], env=env)
    assert run.status == 0, run.stderr
    recordings = list(tmp_path.glob("fork_storm-*.fatrace"))
    assert len(recordings) == 4
    allocs = sorted(harness.read_report(r)["totals"]["allocs"] for r in recordings)
    assert allocs[0] > 0


def test_child_of_a_recorded_program_is_not_recorded(shim):
    run = shim.run(["/bin/sh", "-c", f"{harness.program('tiny')}; exit 0"])
    assert run.stdout == b"still here\n"
    assert run.report["target"]["exe"].endswith("sh")
    assert len(list(run.recording.parent.glob("*.fatrace*"))) == 1


@pytest.mark.parametrize("mode", ["off", "observe", "route"])
def test_program_that_limits_its_own_address_space(shim, mode):
    run = shim.run(harness.program("limits"), {"mode": mode, "frame": "frame_mark"})
    assert run.violations("FA901") == [] if mode != "off" else True


@pytest.mark.parametrize("options", [{"mode": "observe"}, {"mode": "route"}, {"mode": "route", "follow": "1"}])
def test_children_whose_first_call_is_no_allocation(shim, options):
    shim.run(harness.program("fork_first_call"), {"frame": "frame_mark", **options})
