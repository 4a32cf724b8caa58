"""Level full: every event, in order, whoever made it; what is lost is counted; and nothing that happens to the launcher or to
the file harms the program or the report."""
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time

import pytest

import harness


def record(tmp_path, command, *options, check=True, name="x.fatrace"):
    """Runs a program by fa-run at level full; returns the recording."""
    recording = tmp_path / name
    done = subprocess.run([harness.FA_RUN, "--level", "full", "--no-report", "-o", recording, *options, "--", *map(str, command)],
                          capture_output=True, timeout=120, env=harness.clean_environment(), cwd=tmp_path)
    if check:
        assert done.returncode == 0, done.stderr.decode()
    return recording


def events_of(recording):
    report = harness.read_report(recording)
    return report["events"], report


def assert_whole(recording):
    events, report = events_of(recording)
    assert events["whole"] and events["lost"] == 0
    assert (events["births"], events["deaths"]) == (report["totals"]["allocs"], report["totals"]["frees"])
    return events, report


def replay(recording, *routes):
    return subprocess.run([harness.FA_REPORT, "replay", recording, *(a for r in routes for a in ("--route", r))],
                          capture_output=True, text=True, timeout=60)


def figures(text, word):
    """[(before, after)…] of the line that begins with `word`."""
    line = next(line for line in text.splitlines() if line.strip().startswith(word))
    return [tuple(int(n.replace(",", "")) for n in pair) for pair in re.findall(r"([\d,]+) -> ([\d,]+) (?:allocations|blocks)", line)]


PROGRAMS = {
    "one thread": (["pairs", "20000"], ()),
    "threads that free for each other": (["hand_on", "60000"], ("--frame", "hand_frame")),
    "frames and escapes": (["escapes", "400", "100"], ("--frame", "frame_mark")),
    "known counts": (["known", "2", "20", "200", "5", "2", "3", "4", "6", "8", "mark", "exit"], ("--frame", "frame_mark@*")),
    "no call paths": (["hand_on", "30000"], ("--frame", "hand_frame", "--stacks", "none")),
    "observing": (["escapes", "400", "100"], ("--frame", "frame_mark", "--mode", "observe")),
}


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_every_event_is_there(built, tmp_path, name):
    (program, *arguments), options = PROGRAMS[name]
    libs = ("-pthread",) if program == "hand_on" else ("-ldl",)
    events, _ = assert_whole(record(tmp_path, [harness.program(program, libs=libs), *arguments], *options))
    assert events["births"] > 1000 and events["bytes"] < 4 * events["births"]


@pytest.mark.parametrize("command", [["python3", "-c", "print(sum(len(str(i)) for i in range(100000)))"],
                                     ["perl", "-e", "my %h; $h{$_ % 1000} .= $_ for 1..50000; print scalar keys %h"],
                                     ["bash", "-c", "for i in {1..2000}; do x=$x$i; done; echo ${#x}; ls / | wc -l"]],
                         ids=lambda command: command[0])
def test_programs_nobody_prepared(built, tmp_path, command):
    recording = record(tmp_path, [shutil.which(command[0]), *command[1:]])
    assert_whole(recording)


def test_the_level_changes_no_count(built, tmp_path):
    command, options = [harness.program("known"), *"1 40 300 7 3 5 4 12 9 mark exit".split()], ("--frame", "frame_mark")
    _, full = assert_whole(record(tmp_path, command, *options))
    _, summary = events_of(record(tmp_path, command, *options, "--level", "summary", name="summary.fatrace"))
    for key in ("totals", "verdicts", "tiers"):
        for noise in ("peak_bytes", "peak_error_bytes", "footprint_bytes", "footprint_peak_bytes"):
            for report in (full, summary):
                report[key].pop(noise, None)
                for tier in report[key].values():
                    if isinstance(tier, dict):
                        tier.pop(noise, None)
    assert full["verdicts"] == summary["verdicts"] and full["totals"] == summary["totals"] and full["tiers"] == summary["tiers"]
    assert summary["events"] is None


def test_an_exec_has_events_of_its_own(built, tmp_path):
    recording = record(tmp_path, [harness.program("pairs"), "3000", "exec"])
    first, second = (harness.read_report(path) for path in (recording, f"{recording}.1"))
    assert first["events"]["births"] == first["totals"]["allocs"] >= 3000
    assert second["events"]["births"] == second["totals"]["allocs"] >= 500


def test_children_add_nothing(built, tmp_path):
    events, _ = assert_whole(record(tmp_path, [harness.program("pairs"), "5000", "fork"]))
    assert 5000 <= events["births"] < 5100


def test_followed_children_are_recorded_by_sums(built, tmp_path):
    record(tmp_path, ["/bin/sh", "-c", f"{harness.program('pairs')} 2000; :"], "--follow")
    reports = [harness.read_report(path) for path in tmp_path.glob("x.fatrace*") if not path.name.endswith(".events")]
    assert len(reports) == 2 and sorted(report["events"] is None for report in reports) == [False, True]


def test_bare_preload_says_that_it_cannot(built, tmp_path):
    done = subprocess.run([harness.program("pairs"), "100"], capture_output=True, text=True,
                          env=harness.clean_environment({"LD_PRELOAD": harness.LIBRARY, "FA_OPTIONS": f"level=full,output={tmp_path}/x.fatrace"}))
    assert done.stdout == "done\n" and re.fullmatch(r"framealloc: level=full: [^\n]*level summary\n", done.stderr)
    assert harness.read_report(tmp_path / "x.fatrace")["events"] is None


# ---- somebody is killed ---------------------------------------------------------------------------------------------


def started(tmp_path, count, *options):
    """fa-run with a program that has made 100,000 pairs and waits for a line: (fa-run, recording, the program's pid)."""
    recording = tmp_path / "x.fatrace"
    run = subprocess.Popen([harness.FA_RUN, "--level", "full", "--no-report", *options, "-o", recording, "--",
                            harness.program("pairs"), str(count), "tell"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=harness.clean_environment())
    assert run.stdout.readline() == b"begun\n"
    program = int(subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout)
    return run, recording, program


def let_go(run):
    run.stdin.write(b"\n")
    run.stdin.close()


def test_a_killed_program_leaves_all_its_events(built, tmp_path):
    run, recording, program = started(tmp_path, 100_000_000)
    let_go(run)
    time.sleep(0.3)
    os.kill(program, signal.SIGKILL)
    assert run.wait(timeout=30) == 128 + signal.SIGKILL
    events, report = events_of(recording)
    assert events["whole"] and events["lost"] <= 1
    # The one operation that the kill came into may be in one of both only
    assert abs(events["births"] - report["totals"]["allocs"]) <= 1 and events["births"] > 1000


def test_a_disk_that_fills_up_is_told_once_and_what_was_written_counts(built, tmp_path):
    """A limit of the file's length stands for the disk: the queue, of 8 MiB, is below it."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9 << 20, 9 << 20))
    churn = ("import random\nnext = random.Random(1).randrange\nkept = [None] * 5000\n"
             "for i in range(2200000): kept[next(5000)] = bytearray(next(600, 6000))")
    recording = tmp_path / "x.fatrace"
    done = subprocess.run([harness.FA_RUN, "--level", "full", "--no-report", "-o", recording, "--", "/usr/bin/python3", "-c", churn],
                          capture_output=True, text=True, timeout=120, env=harness.clean_environment({"PYTHONMALLOC": "malloc"}),
                          preexec_fn=limit, restore_signals=False)
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["fa-run: events are not whole from here on: File too large"]
    events, report = events_of(recording)
    assert not events["whole"] and 1_000_000 < events["births"] < report["totals"]["allocs"]


@pytest.mark.alone
def test_a_program_that_waits_has_a_file_of_events(built, tmp_path):
    recording = tmp_path / "x.fatrace"
    run = subprocess.Popen([harness.FA_RUN, "--level", "full", "--no-report", "-o", recording, "--", "cat"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=harness.clean_environment())
    run.stdin.write(b"a line\n")
    run.stdin.flush()
    assert run.stdout.readline() == b"a line\n"
    done = subprocess.run([harness.FA_REPORT, recording], capture_output=True, text=True, timeout=60)
    run.stdin.close()
    assert run.wait(timeout=30) == 0
    assert done.returncode == 0 and "not a file of events" not in done.stdout + done.stderr
    assert_whole(recording)


def test_a_killed_launcher_does_not_stop_the_program(built, tmp_path):
    run, recording, program = started(tmp_path, 3_000_000)
    events_file = tmp_path / "x.fatrace.events"
    until = time.monotonic() + 30
    while not events_file.stat().st_size or not events_of(recording)[0]["births"]: # a whole block has been written
        assert time.monotonic() < until
        time.sleep(0.01)
    run.kill()
    run.wait(timeout=30)
    let_go(run)
    assert run.stdout.read() == b"done\n" # the program has come to its end: nobody else writes there
    events, report = events_of(recording)
    assert not events["whole"] and report["totals"]["allocs"] >= 3_000_000
    assert 0 < events["births"] < report["totals"]["allocs"]
    # What found the queue full is counted; what was in the queue when the launcher died is what is left
    lost = report["losses"]["events"]
    assert 0 < lost <= 6_000_002 - events["births"] - events["deaths"]


@pytest.mark.alone
def test_a_slow_launcher_makes_the_program_wait_or_lose(built, tmp_path):
    for policy in ("wait", "lose"):
        run, recording, program = started(tmp_path, 1_500_000, "--set", f"events={policy}")
        os.kill(run.pid, signal.SIGSTOP)
        let_go(run)
        time.sleep(0.5)
        os.kill(run.pid, signal.SIGCONT)
        assert run.wait(timeout=60) == 0
        events, report = events_of(recording)
        told = events["births"] + events["deaths"]
        total = report["totals"]["allocs"] + report["totals"]["frees"]
        assert events["whole"] and report["losses"]["events"] == events["lost"]
        assert (events["lost"] == 0 and told == total) if policy == "wait" else (events["lost"] > 0 and told + events["lost"] == total)


# ---- the file is not what it was ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return record(folder, [harness.program("hand_on", libs=("-pthread",)), "150000"], "--frame", "hand_frame")


def copy_of(whole, tmp_path, contents):
    recording = tmp_path / "copy.fatrace"
    shutil.copy(whole, recording)
    (tmp_path / "copy.fatrace.events").write_bytes(contents)
    return recording


def test_damage_is_told_and_never_fatal(whole, tmp_path):
    data = whole.with_name(whole.name + ".events").read_bytes()
    rng = random.Random(7)
    complete = harness.read_report(whole)["events"]["births"]
    partly = 0
    for turn in range(60):
        broken = bytearray(data)
        if turn % 2:
            broken = broken[:rng.randrange(len(data))]
        else:
            broken[rng.randrange(24, len(data))] ^= 1 << rng.randrange(8)
        recording = copy_of(whole, tmp_path, bytes(broken))
        done = subprocess.run([harness.FA_REPORT, "summary", recording], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "allocations" in done.stdout
        births = int(re.search(r"events +([\d,]+) births", done.stdout)[1].replace(",", ""))
        assert births <= complete
        cut_between_blocks = births < complete and not done.stderr
        assert done.stderr.startswith("fa-report: ") or births == complete or cut_between_blocks
        partly += 0 < births < complete
        assert replay(recording, "all=pool").returncode in (0, 2)
    assert partly > 5


def test_another_file_or_none(whole, tmp_path):
    recording = copy_of(whole, tmp_path, b"something else")
    done = subprocess.run([harness.FA_REPORT, "summary", recording], capture_output=True, text=True)
    assert done.returncode == 0 and "not a file of events" in done.stderr
    recording.with_name("copy.fatrace.events").unlink()
    done = subprocess.run([harness.FA_REPORT, "summary", recording], capture_output=True, text=True)
    assert done.returncode == 0 and "events      none" in done.stdout
    done = replay(recording, "all=pool")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--level full" in done.stderr


# ---- replay ---------------------------------------------------------------------------------------------------------


def test_replay_without_routes_is_what_was(built, tmp_path):
    recording = record(tmp_path, [harness.program("escapes"), "400", "100"], "--frame", "frame_mark")
    report, text = harness.read_report(recording), replay(recording).stdout
    for tier in ("frame", "pool", "heap"):
        assert figures(text, tier) == [(report["tiers"][tier]["allocs"],) * 2]


def test_replay_agrees_with_a_run_that_was_routed_so(built, tmp_path):
    """What replay says of another routing is what a run under a policy with that routing does."""
    program = [harness.program("known"), *"1 30 100 6 0 0 0 8 5 mark exit".split()]
    options = ("--frame", "frame_mark", "--set", "demote-bytes=1G")
    recording = record(tmp_path, program, *options)
    policy = tmp_path / "routed.ini"
    policy.write_text("[rule early]\nsite = site_e\ntier = pool\n")
    check = subprocess.run([harness.FA_REPORT, "policy", "--check", policy], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    routed = harness.read_report(record(tmp_path, program, *options, "--policy", str(policy), name="routed.fatrace"))
    text = replay(recording, "site_e=pool").stdout
    for tier in ("frame", "pool", "heap"):
        (_, after), = figures(text, tier)
        assert after == routed["tiers"][tier]["allocs"], tier
    (before, after), = figures(text, "escapes")
    assert before - after == 30 * 6 and after == 0


def test_replay_refuses_what_it_does_not_know(whole):
    for route, word in (("site_e", "SITE=frame"), ("all=stack", "SITE=frame"), ("nobody=pool", "no such site")):
        done = replay(whole, route)
        assert done.returncode == 2 and word in done.stderr and done.stderr.count("\n") == 1


def test_events_belong_to_their_recording(tmp_path):
    """A run without events takes the place of one with them; a file that is none of events stays."""
    tiny, events = [harness.program("tiny")], tmp_path / "x.fatrace.events"
    record(tmp_path, tiny, check=False)
    assert events.stat().st_size
    recording = record(tmp_path, tiny, "--level", "summary", check=False)
    assert not events.exists()
    done = subprocess.run([harness.FA_REPORT, "replay", recording, "--route", "all=pool"], capture_output=True)
    assert done.returncode == 2 and b"was recorded without events" in done.stderr
    events.write_bytes(b"precious")
    done = subprocess.run([harness.FA_RUN, "--level", "full", "-o", recording, *tiny], capture_output=True)
    assert done.returncode == 125 and re.fullmatch(rb"fa-run: .* no file of events: choose another --output\n", done.stderr)
    record(tmp_path, tiny, "--level", "summary", check=False)
    assert events.read_bytes() == b"precious"


def test_a_report_takes_no_events_place(built, tmp_path):
    recording = record(tmp_path, [harness.program("pairs"), 100])
    events, other = tmp_path / "x.fatrace.events", record(tmp_path, [harness.program("pairs"), 100], name="y.fatrace")
    before = events.read_bytes()
    for source in (recording, other):
        done = harness.plain([harness.FA_REPORT, "-o", events, source])
        assert (done.status, done.stdout) == (2, b"")
        assert done.stderr.decode() == f"fa-report: --output {events}: that is a recording's file of events; a report needs a name of its own\n"
    assert events.read_bytes() == before and before
