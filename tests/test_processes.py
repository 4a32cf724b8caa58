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


def test_children_keep_their_recordings(built, tmp_path):
    """One after the other and at once: none takes another's name. The next run takes the place of them all."""
    output, tiny = tmp_path / "x.fatrace", harness.program("tiny")
    script = f"{tiny}; {tiny}; {tiny} & {tiny} & {tiny} & wait; exec {tiny}"
    for commands, programs in ((script, 6), (f"{tiny}; exit 7", 1)):
        done = harness.plain([harness.FA_RUN, "--quiet", "--follow", "-o", output, "/bin/sh", "-c", commands])
        assert done.status == 7, done.stderr
        names = [harness.read_report(r)["target"]["exe"].rsplit("/", 1)[1] for r in tmp_path.glob("x.fatrace*")]
        assert names.count("tiny") == programs


def test_children_of_a_program_that_gives_itself_a_title(built, tmp_path):
    output = tmp_path / "x.fatrace"
    done = harness.plain([harness.FA_RUN, "--quiet", "--follow", "-o", output, harness.program("retitled"), "one", "two"])
    assert (done.status, done.stderr) == (0, b"")
    reports = [harness.read_report(r) for r in (output, tmp_path / "x.fatrace.1")]
    assert [r["target"]["args"][1:] for r in reports] == [["one", "two"]] * 2
    assert sum(s["allocs"] for s in reports[1]["sites"]) >= 100


def test_child_of_a_recorded_program_is_not_recorded(shim):
    run = shim.run(["/bin/sh", "-c", f"{harness.program('tiny')}; exit 0"])
    assert run.stdout == b"still here\n"
    assert run.report["target"]["exe"].endswith("sh")
    assert len(list(run.recording.parent.glob("*.fatrace*"))) == 1


@pytest.mark.parametrize("mode", ["off", "observe", "route"])
@pytest.mark.parametrize("what", ["space", "data"])
def test_program_that_limits_its_own_memory(shim, mode, what):
    run = shim.run([harness.program("limits"), what], {"mode": mode, "frame": "frame_mark"})
    assert run.violations("FA901") == [] if mode != "off" else True


@pytest.mark.parametrize("options", [{}, {"stacks": "none"}, {"follow": 1}])
def test_children_with_threads_and_handlers_that_allocate(shim, options):
    shim.run(harness.program("fork_in_alarms"), options, timeout=100)


@pytest.mark.parametrize("how", [[], ["past-the-hook"]])
@pytest.mark.parametrize("options", [{}, {"stacks": "none"}, {"follow": 1}])
def test_children_that_make_threads_before_they_allocate(shim, options, how):
    """Each thread notices the fork then; one of them is to, and the others wait."""
    run = shim.run([harness.program("young_threads"), *how], options)
    children = [f for f in run.recording.parent.iterdir() if f.name.startswith(run.recording.name + ".")]
    assert len(children) == (100 if "follow" in options else 0)
    for child in children:
        sites = [s for s in harness.read_report(child)["sites"] if any(frame["function"] == "work" for frame in s["stack"])]
        assert [sum(s[key] for s in sites) for key in ("allocs", "frees", "live_blocks")] == [12000, 12000, 0]


@pytest.mark.parametrize("options", [{"mode": "observe"}, {"mode": "route"}, {"mode": "route", "follow": "1"}])
def test_children_whose_first_call_is_no_allocation(shim, options):
    shim.run(harness.program("fork_first_call"), {"frame": "frame_mark", **options})
