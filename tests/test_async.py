"""Tasks that no runtime declares: functions that poll, and coroutines with stacks or without. Every program makes one
block in each poll that dies in it and one that the next poll frees, so every count is known."""
import os
import re
import shutil
import subprocess

import pytest

import harness

SITES = {"keeps": ("crossing", "task_keeps"), "drops": ("staying", "task_drops")}


def verdict(run, role, name):
    return sum(s["verdicts"][name] for s in run.report["sites"] if s["stack"] and s["stack"][0]["function"] in SITES[role])


def of_roles(run):
    """(blocks that died in their segment where all do, blocks that crossed an await where all do, all others)."""
    counts = run.report["verdicts"]
    mine = verdict(run, "drops", "died_in_segment"), verdict(run, "keeps", "crossed_await")
    rest = sum(v for name, v in counts.items() if name != "outside_scopes") - sum(mine)
    return *mine, rest


def totals(run):
    tasks = run.report["tasks"]
    return tasks["started"], tasks["ended"], tasks["polls"]


def policy(tmp_path, *lines):
    path = tmp_path / "policy.ini"
    path.write_text("[markers]\n" + "".join(f"{line}\n" for line in lines))
    return path


# ---- polls ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("via", ["preload", "fa-run"])
@pytest.mark.parametrize("tasks, live, polls, threads", [(1, 1, 1, 1), (10, 2, 7, 1), (1000, 100, 5, 3), (600, 3, 4, 2)])
def test_polls(shim, mode, via, tasks, live, polls, threads):
    run = shim.run([harness.program("async/polls"), tasks, live, polls, threads],
                   {"mode": mode, "task": "poll_task"}, via=via)
    begun = (tasks + live - 1) // live * live
    assert re.fullmatch(rf"{begun * polls} \d+\n", run.stdout.decode())
    assert totals(run) == (begun, begun, begun * polls)
    assert of_roles(run) == (begun * polls, begun * (polls - 1), 0)
    kind, = run.report["tasks"]["types"]
    assert kind["function"] == "poll_task" and kind["kind"] == "poll" and kind["left_blocks"] == 0
    assert kind["polls_max"] == polls and kind["live_peak"] == live
    assert kind["allocs"] == begun * (2 * polls - 1) and kind["crossed_await"] == begun * (polls - 1)
    assert kind["bytes_peak"] == (48 if polls > 1 else 0)
    assert run.violations() == []
    assert [t["role"] for t in run.report["threads"] if t["tid"] and not t["main"]] == ["async"] * (threads - 1)
    assert run.report["tiers"]["pool"]["allocs"] == begun * (2 * polls - 1)


def test_ended_by_another_thread_as_its_poll_returns(shim):
    """Whether the end or the return comes first: each task ends once, and none goes on under the next one's address."""
    run = shim.run([harness.program("async/end_race"), 300000], {"task": "poll_task"})
    assert totals(run) == (300000, 300000, 300000)


def test_a_task_that_is_not_a_block_ends_by_its_marker(shim, tmp_path):
    run = shim.run(harness.program("async/ends"), {"policy": policy(tmp_path, "task = poll_state", "task-end = close_state")})
    assert totals(run) == (5, 5, 15)
    assert run.report["tasks"]["types"][0]["left_blocks"] == 5


def test_a_poll_inside_a_poll(shim):
    run = shim.run([harness.program("async/nested"), 50], {"task": ["poll_outer", "poll_inner"]})
    by_name = {t["function"]: t for t in run.report["tasks"]["types"]}
    assert (by_name["poll_outer"]["polls"], by_name["poll_inner"]["polls"]) == (50, 100)
    # Each makes its own blocks, and what the inner one frees of the outer one's is no fault.
    assert by_name["poll_outer"]["allocs"] == 100 and by_name["poll_inner"]["allocs"] == 100
    assert run.violations() == []
    assert run.site_sum("handed_in", "verdicts", "died_elsewhere") == 50


def test_tasks_inside_frames(shim):
    """block_on inside a frame: frame blocks go on through polls, a task's blocks are no frame's, and what a frame made and
    a task of a later frame frees is captured."""
    run = shim.run([harness.program("async/in_frames"), 40], {"frame": "frame_mark", "task": "poll_task"})
    assert run.report["frames"]["count"] == 40
    assert run.site_sum("frame_scratch", "verdicts", "died_in_segment") == 0
    assert run.site_sum("frame_scratch", "verdicts", "died_in_frame") == 40
    assert run.site_sum("task_scratch", "verdicts", "died_in_segment") == 40
    captured = run.violations("FA703")
    assert sum(v["count"] for v in captured) == 39 and {v["level"] for v in captured} == {"warning"}
    assert {v["born"]["stack"][0]["function"] for v in captured} == {"captured"}
    assert {v["died"]["stack"][0]["function"] for v in captured} == {"poll_task"}
    assert len(run.violations()) == len(captured)
    # The frames' own figures leave the tasks' blocks out where they ask what escapes.
    assert sum(f["escapes"] for f in run.report["frames"]["series"]) == 39


def test_a_million_tasks_and_ten_thousand_at_once(shim):
    """Neither the process nor its recording grows with the number of tasks, but with those that live at once."""
    runs = {}
    for tasks in (40000, 1000000):
        run = shim.run([harness.program("async/polls"), tasks, 10000, 2], {"task": "poll_task"})
        counted, resident_kib = run.report["tasks"], int(run.stdout.split()[1])
        assert (counted["started"], counted["ended"], counted["polls"]) == (tasks, tasks, 2 * tasks)
        assert counted["types"][0]["live_peak"] == 10000
        runs[tasks] = resident_kib, run.recording.stat().st_size
    (rss_few, size_few), (rss_many, size_many) = runs.values()
    assert size_many == size_few
    assert 4096 < rss_few and rss_many < rss_few + 6 * 1024  # the table of segments fills up: 4 MiB


def test_a_task_is_polled_by_the_next_thread_before_the_last_has_returned(shim):
    run = shim.run([harness.program("async/overlap"), 2000], {"task": "poll_task"})
    assert totals(run) == (1, 1, 4000)
    assert run.site_sum("task_keeps", "verdicts", "crossed_await") == 3999
    assert run.violations() == []


# ---- coroutines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("count, resumptions", [(2, 100), (1, 1), (300, 7)])
def test_ucontext(shim, mode, count, resumptions):
    run = shim.run([harness.program("async/ucontext"), count, resumptions], {"mode": mode, "preset": "ucontext"})
    assert run.stdout.decode() == f"{count * resumptions}\n"
    assert totals(run) == (count, count, count * (resumptions + 1))
    assert of_roles(run) == (count * resumptions, count * resumptions, 0)
    kind, = run.report["tasks"]["types"]
    assert (kind["function"], kind["kind"], kind["left_blocks"]) == ("body", "coroutine", 0)
    # One site each: paths end where the coroutine begins.
    assert len(run.sites("crossing")) == len(run.sites("staying")) == 1
    assert run.violations() == []


def test_boost(shim):
    if not shutil.which("g++") or subprocess.run(["g++", "-xc++", "-", "-fsyntax-only"], capture_output=True,
                                                 input=b"#include <boost/context/fiber.hpp>").returncode:
        pytest.skip("Boost.Context is not installed (package libboost-context-dev)")
    run = shim.run([harness.program("async/boost", libs=("-lboost_context",)), 3, 50], {"preset": "boost"})
    assert run.stdout == b"150\n"
    started, ended, polls = totals(run)
    assert (started, ended) == (3, 3) and polls >= 3 * 51
    assert of_roles(run) == (150, 150, 0) and run.violations() == []


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_cxx20(shim, compiler, level):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    program = harness.compile_to(harness.OUT / f"async/cxx20{compiler}{level}", [harness.PROGRAMS / "async/cxx20.cpp"],
                                 ["-std=c++20", "-g", "-fno-optimize-sibling-calls", level], compiler=compiler)
    run = shim.run([program, 4, 30], {"preset": "coroutines"})
    assert run.stdout == b"120\n"
    started, ended, polls = totals(run)
    assert (started, ended) == (4, 4) and polls in (4 * 31, 4 * 32)  # with the ramp's own first poll at -O0 of gcc
    assert of_roles(run) == (120, 120, 0) and run.violations() == []


@pytest.mark.parametrize("where", ["malloc", "map"])
def test_switches_that_no_library_knows(shim, tmp_path, where):
    markers = policy(tmp_path, "stack = context_prepare low=arg2 size=arg3 entry=arg4", "switch = context_switch to=[arg2+8]")
    run = shim.run([harness.program("async/switches"), 5, 40, *(["map"] if where == "map" else [])], {"policy": markers})
    assert run.stdout == b"5200\n"
    assert totals(run) == (5, 5 if where == "malloc" else 0, 5 * 41)  # nobody tells when a mapping's stack is done with
    assert of_roles(run) == (200, 200, 0) and run.violations() == []


def test_stacks_are_found_by_the_blocks_they_lie_in(shim, tmp_path):
    run = shim.run([harness.program("async/switches"), 5, 40], {"policy": policy(tmp_path, "switch = context_switch to=[arg2+8]")})
    assert totals(run) == (5, 5, 5 * 41) and of_roles(run) == (200, 200, 0)
    assert [t["name"] for t in run.report["tasks"]["types"]] == ["context_switch"]


def test_regions_belong_to_the_coroutine_that_opened_them(shim, tmp_path):
    """A region that is open across a switch is open again after it, and nowhere else."""
    path = tmp_path / "policy.ini"
    path.write_text("[markers]\nstack = makecontext low=[arg1+16] size=[arg1+32] entry=arg2\nswitch = swapcontext to=[arg2+160]\n"
                    "switch = setcontext to=[arg1+160]\n[region inside]\nscope = region_inside\n")
    run = shim.run([harness.program("async/regions"), 20], {"policy": path})
    inside, = run.report["regions"]
    assert (inside["name"], inside["allocs"]) == ("inside", 2 * 20)
    assert run.site_sum("home_alloc", "allocs") == 40
    assert all(s["region"] is None for s in run.sites("home_alloc"))
    assert run.report["losses"]["reasons"] == []


def test_coroutines_that_are_switched_by_longjmp(shim):
    run = shim.run([harness.program("async/jumping"), 3, 20], {"preset": "ucontext"})
    assert run.stdout == b"57\n"
    assert totals(run) == (3, 3, 3 * 21)
    assert run.site_sum("crossing", "verdicts", "crossed_await") == 3 * 19
    assert run.site_sum("staying", "verdicts", "died_in_segment") == 3 * 20
    assert run.site_sum("outside", "verdicts", "outside_scopes") == 3 * 20


PHP = """<?php
$fibers = [];
for ($i = 0; $i < 50; $i++)
  $fibers[$i] = new Fiber(function() {
    for ($k = 0; $k < 20; $k++) { $kept = str_repeat("x$k", 100); Fiber::suspend(strlen($kept)); unset($kept); }
  });
$sum = 0;
foreach ($fibers as $f) $sum += $f->start();
for ($k = 0; $k < 20; $k++) foreach ($fibers as $f) $sum += $f->resume() ?? 0;
echo $sum, "\\n";
"""


def test_fibers_of_php(shim, tmp_path):
    """Unmodified, stripped, and with Boost's switch among its exported names."""
    php = shutil.which("php")
    if not php or b" jump_fcontext" not in subprocess.run(["nm", "-D", os.path.realpath(php)], capture_output=True).stdout:
        pytest.skip("no php that exports jump_fcontext (package php-cli)")
    script = tmp_path / "fibers.php"
    script.write_text(PHP)
    env = {"USE_ZEND_ALLOC": 0}
    run = shim.run([php, script], {"preset": "boost"}, env=env)
    assert run.stdout == harness.plain([php, script], env=env).stdout
    started, _, polls = totals(run)
    assert (started, polls) == (50, 50 * 21)
    kind, = run.report["tasks"]["types"]
    assert kind["crossed_await"] >= 50 * 20


RUBY = """
fibers = (0...50).map { Fiber.new { 20.times { |k| a = "x#{k}" * 100; Fiber.yield a.size }; 0 } }
sum = 0
21.times { fibers.each { |f| sum += f.resume } }
puts sum
"""


def test_fibers_of_ruby(shim, tmp_path):
    """A switch of its own, told by a policy."""
    ruby = shutil.which("ruby")
    if not ruby:
        pytest.skip("ruby is not installed")
    markers = policy(tmp_path, "switch = coroutine_transfer to=[arg2]")
    run = shim.run([ruby, "-e", RUBY], {"policy": markers})
    if not any(m["bound"] for m in run.report["markers"] if m["name"] == "coroutine_transfer"):
        pytest.skip("this ruby does not export coroutine_transfer")
    assert run.stdout == harness.plain([ruby, "-e", RUBY]).stdout
    assert totals(run)[0] == 50 and totals(run)[2] == 50 * 21
