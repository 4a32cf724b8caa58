"""Several frame threads: one frees what another has made, or has the slot of one that has ended. Counts are exact."""
import pytest

import harness

FRAMES = {"frame": "frame_mark@*"}


def told(run, code):
    """How often, for the blocks of the program's one site; FA604 has no site."""
    found = run.violations(code)
    assert all(v["born"]["stack"][0]["function"] == "make" for v in found if code != "FA604")
    return sum(v["count"] for v in found)


@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.parametrize("freed_by", ["first", "second"])
@pytest.mark.parametrize("what, code, count", [("hot", "FA602", 1), ("alive", "FA601", 5)])
def test_a_thread_that_has_freed_more_of_a_site_than_it_has_made(shim, what, code, count, freed_by, mode):
    """It begins below nothing; what it makes in its frames counts as if nobody had freed before."""
    run = shim.run([harness.program("freed_by_others"), what, freed_by], {**FRAMES, "mode": mode})
    foreign = 50 if freed_by == "second" else 0
    assert run.site_sum("make", "verdicts", "died_elsewhere") == told(run, "FA201") == foreign
    assert told(run, code) == count
    assert {v["code"] for v in run.violations()} == ({code, "FA201"} if foreign else {code})


def pile(shim, freed_by):
    """A frame of 200 ms that makes 10 MB, never with more than 100 KB alive."""
    run = shim.run([harness.program("freed_by_others"), "pile", freed_by],
                   {"frame": "frame_mark", "never-ends-ms": 100, "never-ends-bytes": "1M"})
    assert run.site_sum("make", "allocs") == run.site_sum("make", "frees") == 10000
    return run


@pytest.mark.parametrize("freed_by", ["main", "worker"])
def test_what_others_free_does_not_pile_up(shim, freed_by):
    assert pile(shim, freed_by).violations("FA604") == []


@pytest.mark.parametrize("freed_by", ["main", "worker"])
def test_no_site_has_a_higher_peak_than_the_process(shim, freed_by):
    """Each thread's sum for the site is far off where one makes what another frees."""
    run = pile(shim, freed_by)
    totals = run.report["totals"]
    site, = run.sites("make")
    assert 90000 < site["peak_bytes"] <= totals["peak_bytes"] + totals["peak_error_bytes"] < 1 << 20


def in_turn(shim, what, number, **options):
    return shim.run([harness.program("frames_in_turn"), what, number], {**FRAMES, **options})


@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.parametrize("frame", [1, 2, 3])
def test_blocks_of_an_ended_thread_are_of_no_later_frame(shim, frame, mode):
    """The program ends in a frame of the next thread in the slot. None of the 10 was born in it."""
    run = in_turn(shim, "leave", frame, mode=mode)
    assert told(run, "FA601") == run.site_sum("make", "live_blocks") == 10


@pytest.mark.parametrize("frame", [2, 3])
def test_large_blocks_of_two_threads_are_not_of_one_frame(shim, frame):
    """60 each; 101 in one frame are a violation."""
    run = in_turn(shim, "large", frame)
    assert run.site_sum("make", "tier", "heap") == 120
    assert run.violations() == []


@pytest.mark.parametrize("frame", [2, 3])
def test_each_thread_of_a_slot_is_told_that_its_frame_never_ends(shim, frame):
    run = in_turn(shim, "pile-up", frame, **{"never-ends-ms": 50, "never-ends-bytes": "1M"})
    assert told(run, "FA604") == 2


def test_who_goes_on_in_a_record_has_no_frame_open(shim):
    """There are 4,096 records. The thread that made the blocks has ended, and so has its frame."""
    run = in_turn(shim, "hand-on", 4092)
    assert any("folded into other threads' records" in reason for reason in run.report["losses"]["reasons"])
    assert (told(run, "FA205"), told(run, "FA201")) == (10, 0)
    assert run.site_sum("make", "verdicts", "outlived_frame") == 10
