"""What a program may do with memory that malloc gave it, with limits, and what a thread's slot keeps of the thread before."""
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest

import harness
from test_api import build

NAMES = ["pthread_self", "pthread_sigmask", "pthread_setcanceltype", "__errno_location", "pthread_*", "libc.so.6!*"]


@pytest.mark.parametrize("case", ["grow", "guard-argument", "guard-stack", "vfork-limit", "mappings"])
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_memory_is_the_programs(shim, mode, case):
    options = {"mode": mode, **({"preset": "ucontext"} if case == "guard-stack" else {})}
    run = shim.run([harness.program("rights"), case], options)
    if run.stdout == b"unfilled\n":
        pytest.skip("this kernel allows a process more than 300,000 mappings")
    assert run.violations("FA901") == run.violations("FA902") == []


def test_a_thread_has_the_name_that_the_kernel_took(shim):
    run = shim.run([harness.program("rights"), "name"])
    assert [t["name"] for t in run.report["threads"] if t["main"]] == ["a-very-long-nam"]


def test_growing_blocks_in_little_address_space(shim):
    """A hundred times what the limit allows goes through it."""
    shim.run([harness.program("rights"), "grow"], wrapper=["prlimit", f"--as={3 << 30}"])


@pytest.mark.parametrize("options", [{}, {"mode": "observe"}, {"stacks": "none", "frame": "frame_mark"}])
def test_a_large_block_that_grows_takes_its_pages_along(shim, options):
    """512 MiB of which one page was touched are no more resident afterwards; nor are two blocks that grew where they were before
    they had to move again."""
    run = shim.run(harness.program("taken_over"), options)
    assert int(run.stdout) < 300 << 10
    assert run.violations("FA901") == run.violations("FA902") == []
    assert run.report["totals"]["allocs"] == run.report["totals"]["frees"] + run.report["totals"]["live_blocks"]


def test_a_large_block_grows_in_a_child_as_well(shim):
    """One that is not recorded."""
    run = shim.run([harness.program("taken_over"), "child"])
    assert int(run.stdout) < 300 << 10


def test_a_large_block_whose_pages_may_not_move_grows(shim):
    """Also where a part of them has moved by then."""
    run = shim.run([harness.program("taken_over"), "refused"])
    assert run.violations("FA901") == run.violations("FA902") == []


@pytest.mark.parametrize("options", [{}, {"mode": "observe"}, {"stacks": "none"}])
@pytest.mark.parametrize("what", ["locked", "read-only", "refused", "next", "fork"])
def test_a_block_grows_whatever_the_program_made_of_its_pages(shim, what, options):
    if what == "locked" and 0 <= resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] < 4 << 20:
        pytest.skip("no more than 4 MiB may be locked here (RLIMIT_MEMLOCK)")
    assert harness.plain([harness.program("page_rights"), what]).status == 0
    run = shim.run([harness.program("page_rights"), what], options)
    assert run.violations("FA901") == run.violations("FA902") == []


@pytest.mark.parametrize("limit", ["as", "data"])
@pytest.mark.parametrize("options, small", [({"mode": "route"}, "small"), ({"mode": "route", "frame": "none"}, "small"),
                                            ({"stacks": "none"}, "small"), ({"mode": "observe"}, "")])
def test_little_address_space_is_the_programs(shim, options, small, limit):
    """Three quarters of what the limit leaves in one block, as without the shim; what lies in the region's way stays whole. In
    mode observe jemalloc serves small blocks and keeps their addresses for others as small."""
    if limit == "data" and Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("vm.overcommit_memory=2: jemalloc commits what is mapped, which the kernel does not count as new data")
    run = shim.run([harness.program("little_space"), small], {"frame": "frame_mark", **options},
                   wrapper=["prlimit", f"--{limit}={400 << 20}"])
    assert run.violations("FA901") == run.violations("FA902") == []


@pytest.mark.parametrize("limit", ["as", "data"])
def test_threads_take_little_address_space(shim, limit):
    """Two hundred within 1400 MiB, each with its call paths; they would be 1.8 GiB with all tables that a thread may have."""
    run = shim.run([harness.program("idle_threads"), 200], {"frame": "none"}, wrapper=["prlimit", f"--{limit}={1400 << 20}"])
    assert sum(thread["allocs"] == 8 for thread in run.report["threads"]) == 200
    assert run.report["losses"]["reasons"] == []


@pytest.mark.parametrize("limit", ["as", "data"])
@pytest.mark.parametrize("mib", [300, 400])
def test_threads_leave_the_program_half_of_its_memory(shim, limit, mib):
    """They know their callers only, which is told, where call paths would take more."""
    run = shim.run([harness.program("idle_threads"), 200], {"frame": "none"}, wrapper=["prlimit", f"--{limit}={mib << 20}"])
    assert sum(thread["allocs"] == 8 for thread in run.report["threads"]) == 200
    assert [reason for reason in run.report["losses"]["reasons"] if "call paths that could not be captured" in reason]


@pytest.mark.parametrize("stacks", ["full", "none"])
def test_a_program_that_locks_its_memory(shim, stacks):
    """250 MiB of it are one block. What is reserved counts against the limit, and what is mapped is filled."""
    run = shim.run(harness.program("locked"), {"stacks": stacks, "frame": "frame_mark"})
    resident_kib, limited = map(int, run.stdout.split())
    if resident_kib < 0:
        pytest.skip("this user may not lock memory (RLIMIT_MEMLOCK)")
    assert 250 << 10 < resident_kib < 340 << 10
    if not limited:
        pytest.skip("no limit of 400 MiB could be set (RLIMIT_MEMLOCK): only what was resident is checked")


def test_nothing_stays_reserved_behind_a_limit(shim):
    mapped = [int(shim.run(harness.program("limit_race"), {"frame": "none"}).stdout) for _ in range(30)]
    assert max(mapped) < min(mapped) + 40


def test_a_free_behind_a_block_is_told(shim):
    run = shim.run([harness.program("rights"), "free-behind"])
    assert sum(v["count"] for v in run.violations("FA901")) == 1


def test_a_frame_that_another_thread_left_open(shim):
    shim.run(build("inherited"))


def test_a_slot_keeps_nothing_of_a_thread_whose_frames_were_taken_over(shim):
    run = shim.run([harness.program("slots", flags=["-rdynamic"]), "taken-over"])
    frames = {t["name"]: t["frames"] for t in run.report["threads"]}
    assert frames["third"] > 250


def dumped(recording):
    return subprocess.run([harness.FA_REPORT, "dump", recording], capture_output=True, text=True, check=True).stdout


def test_live_bytes_of_a_thread_that_frees_what_others_made(shim):
    run = shim.run([harness.program("slots"), "frees"], {"frame": "frame_mark"})
    live = [int(n) for n in re.findall(r"live (\d+) KiB", dumped(run.recording))]
    assert len(live) == 20 and max(live) < 64 * 64 * 2


@pytest.mark.parametrize("what", ["root", "chroot", "files", "calls"])
def test_a_recording_grows_when_its_file_is_out_of_reach(shim, what):
    """Also one that would be killed if it opened a file."""
    if what in ("root", "chroot") and os.geteuid():
        pytest.skip("only root can give that up")
    run = shim.run([harness.program("gives_up"), what], via="fa-run")
    sites = run.sites("left") + run.sites("right")
    assert len(sites) == 4096 and {(s["allocs"], s["live_blocks"]) for s in sites} == {(3, 0)}
    assert run.report["losses"]["reasons"] == []
    assert run.recording.stat().st_size < 4 << 20, "the hole at its end has been left there"


@pytest.mark.parametrize("what", ["root-fork", "calls-fork"])
def test_a_child_that_cannot_be_recorded_is_told(shim, what):
    """And is not killed for trying."""
    if what == "root-fork" and os.geteuid():
        pytest.skip("only root can give that up")
    run = shim.run([harness.program("gives_up"), what], {"follow": 1}, via="fa-run")
    assert run.report["losses"]["reasons"] == ["1 child processes that could make no recording of their own"]


@pytest.mark.parametrize("limit, grows", [(8 << 20, True), (700 << 10, False)])
def test_a_sandboxed_program_under_a_limit_of_files_is_not_killed(shim, limit, grows):
    run = shim.run([harness.program("gives_up"), "calls"], wrapper=["prlimit", f"--fsize={limit}"])
    assert any("could not grow" in r for r in run.report["losses"]["reasons"]) != grows


@pytest.mark.parametrize("options", [{}, {"stacks": "none"}, {"stacks": "caller"}, {"mode": "observe"}, {"stack-check": 1}])
@pytest.mark.parametrize("arguments", [[], ["refused"]])
def test_a_program_that_may_make_an_allocators_calls_only(shim, arguments, options):
    run = shim.run([harness.program("few_calls"), *arguments], options)
    assert run.report["totals"]["allocs"] == 40001 and run.report["call_paths"]["wrong"] == 0
    if run.report["stacks"] == "full":
        assert {len(site["stack"]) for site in run.sites("deep")} == set(range(5, 105)), "each path is whole"


def test_threads_that_meet_where_few_calls_are_allowed(shim):
    run = shim.run([harness.program("meets_in_sandbox")])
    assert (run.status, run.stderr) == (0, b"") and run.report["call_paths"]["wrong"] == 0


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("what", ["forks", "keys", "calls", "stack", "task", "memory", "fork"])
def test_the_first_large_block_comes_late(shim, mode, what):
    """What jemalloc needs to begin is there still."""
    run = shim.run([harness.program("late_heap"), what], {"mode": mode, **({"preset": "ucontext"} if what in ("stack", "task") else {})})
    assert run.violations("FA901") == run.violations("FA902") == []


@pytest.mark.parametrize("follow", [0, 1])
def test_forks_while_libraries_are_loaded(shim, follow):
    library = harness.program("plugin", shared=True)
    run = shim.run([harness.program("fork_while_loading"), library, 150], {"follow": follow, "frame": "frame_mark"})
    assert run.stdout == b"0\n"


def test_no_frame_is_lost_untold_when_the_disk_is_full(shim):
    count = 50000
    run = shim.run([harness.program("slots"), "frames", str(count)], {"frame": "frame_mark"},
                   wrapper=["prlimit", f"--fsize={1200 << 10}"])
    text = dumped(run.recording)
    whole, kept = map(int, re.search(rf"frames {count}, whole (\d+) of (\d+) kept", text).groups())
    lost, merged = (int(m[1]) if (m := re.search(rf"loss: (\d+) {what}", text)) else 0
                    for what in ("frames in no record", "older frames merged"))
    assert lost and whole == count - 1 and kept + merged + lost == whole


@pytest.mark.parametrize("kind", ["frame", "frame-scope"])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_shim_itself_calls_can_be_marked(shim, kind, name):
    shim.run([harness.program("slots"), "frees"], {kind: name}, via="fa-run")
