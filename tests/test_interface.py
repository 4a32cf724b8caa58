"""The keys of the JSON report that others read, and the text commands: all there, with values of the right kind."""
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import harness

NUMBER, TEXT, MAYBE = (int, float), str, (str, type(None))
SPREAD = dict.fromkeys(["p50", "p95", "p99", "max"], NUMBER)
TIER = dict.fromkeys(["allocs", "frees", "bytes", "peak_bytes"], int)
VERDICTS = dict.fromkeys(["died_in_segment", "died_in_frame", "crossed_await", "outlived_frame", "died_elsewhere",
                          "never_died", "outside_scopes"], int)
FRAME = {"function": MAYBE, "signature": MAYBE, "linkage_name": MAYBE, "file": MAYBE, "line": (int, type(None)),
         "module": MAYBE, "build_id": MAYBE, "offset": (int, str, type(None)), "inlined": bool}
SCHEMA = {
    "schema": TEXT, "mode": TEXT, "stacks": TEXT,
    "target": {"exe": TEXT, "pid": int, "args": list, "start_unix_ns": int, "duration_ns": int, "ended": TEXT},
    "totals": dict.fromkeys(["allocs", "frees", "bytes", "live_blocks", "live_bytes", "peak_bytes"], int),
    "tiers": {"frame": TIER, "pool": TIER, "heap": TIER, "foreign": {"frees": int}},
    "frames": {"count": int, "thread": (int, str, dict), "marker": MAYBE, "duration_ns": SPREAD, "allocs": SPREAD, "bytes": SPREAD,
               "series": [dict.fromkeys(["n", "begin_ns", "end_ns", "allocs", "bytes", "escapes"], int)], "per_thread": list},
    "verdicts": VERDICTS,
    "tasks": dict.fromkeys(["started", "ended", "polls"], int),
    "threads": [{"tid": int, "name": TEXT, "role": TEXT, "allocs": int, "frees": int}],
    "markers": [{"name": TEXT, "kind": TEXT, "module": MAYBE, "bound": bool, "binding": MAYBE, "reason": MAYBE, "calls": int, "automatic": bool}],
    "sites": [{"id": (int, str), "allocs": int, "frees": int, "bytes": int, "live_blocks": int, "live_bytes": int, "peak_bytes": int,
               "verdicts": VERDICTS, "tier": dict, "live_bytes_at_peak": int, "stack": [FRAME],
               "lifetime_frames": {"p50": NUMBER, "p95": NUMBER, "max": NUMBER}}],
    "violations": [{"code": TEXT, "name": TEXT, "level": TEXT, "count": int, "bytes": int, "first_frame": int, "last_frame": int,
                    "fingerprint": TEXT, "message": TEXT, "help": TEXT, "born": {"site": (int, str, type(None)), "thread": (int, str, dict, type(None)), "stack": [FRAME]},
                    "scope_end": (dict, type(None)), "died": (dict, type(None))}],
    "call_paths": dict.fromkeys(["captured", "hits", "checked", "wrong"], int),
    "losses": {"events": (int, dict), "sites": int, "stacks": int, "reasons": list},
}


def check(value, schema, path="report"):
    if isinstance(schema, dict):
        assert isinstance(value, dict), path
        for key, inner in schema.items():
            assert key in value, f"{path}.{key} is missing"
            check(value[key], inner, f"{path}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, f"{path} is empty"
        for i, item in enumerate(value):
            check(item, schema[0], f"{path}[{i}]")
    else:
        assert isinstance(value, schema), f"{path} is {value!r}"


@pytest.fixture(scope="module")
def run(built, tmp_path_factory):
    known = [harness.program("known"), *"2 30 50 3 2 3 2 3 4 mark exit".split()]
    return harness.Shim(tmp_path_factory.mktemp("interface")).run(known, {"frame": "frame_mark@*"}, "fa-run")


def test_every_key_is_there(run):
    check(run.report, SCHEMA)
    assert run.report["schema"] == "framealloc-report/1"
    assert run.report["target"]["exe"] == str(harness.program("known"))
    assert run.report["target"]["args"][1:3] == ["2", "30"]
    assert run.report["frames"]["marker"] == "frame_mark@*"


def test_functions_files_and_lines(run):
    for site in run.sites("site_e"):
        frame = site["stack"][0]
        assert frame["file"].endswith("tests/programs/known.c")
        line = open(harness.PROGRAMS / "known.c").read().splitlines()[frame["line"] - 1]
        assert "malloc(40)" in line
        assert [f["function"] for f in site["stack"]][1] == "owner"
        assert site["stack"][0]["build_id"]


def test_live_bytes_are_usable_bytes(run):
    assert run.site_sum("site_l", "live_bytes") == 2 * 30 * 2 * 112
    assert run.site_sum("site_l", "bytes") == 2 * 30 * 2 * 100
    assert run.site_sum("site_l", "peak_bytes") >= 2 * 30 * 2 * 112


def test_the_peaks_bound_stands_beside_it(run, tmp_path):
    def shown(recording):
        return re.search(r"; peak (.*?), live at the end", harness.plain([harness.FA_REPORT, recording]).stdout.decode())[1]
    totals = run.report["totals"]
    kib = totals["peak_error_bytes"] / 1024
    assert kib * 1024 > totals["peak_bytes"] / 100
    assert re.fullmatch(rf"\S+ KiB \(up to {kib:.{'0f' if kib >= 100 else '1f'}} KiB more\)", shown(run.recording))
    for bytes_more, words in ((totals["peak_bytes"] // 100, 0), (totals["peak_bytes"] // 100 + 1, 1), (0, 0)):
        copy = harness.with_header(run.recording, tmp_path / "copy.fatrace", "peak_error_bytes", bytes_more)
        assert shown(copy).count("more)") == words


@pytest.mark.parametrize("command", ["summary", "violations", "sites", "leaks", "frames", "threads", "markers", "list", "dump"])
def test_text_commands(run, command):
    done = harness.plain([harness.FA_REPORT, command, run.recording.parent if command == "list" else run.recording])
    assert done.status == 0 and done.stdout and not done.stderr
    assert b"\x1b[" not in done.stdout, "colour though it is no terminal"


def test_list_names_recordings_only(run, tmp_path):
    """Also those of another name."""
    for name in ("a.fatrace", "a.fatrace.1", "b.fatrace.c.fatrace", "d.fa"):
        (tmp_path / name).write_bytes(run.recording.read_bytes())
    os.mkfifo(tmp_path / "fifo")
    for name in ("a.fatrace.events", "a.fatrace.1.html", "a.fatrace.", "notes"):
        (tmp_path / name).write_text("no recording")
    listed = json.loads(harness.plain([harness.FA_REPORT, "list", tmp_path, "--format", "json"]).stdout)
    assert [Path(one["path"]).name for one in listed] == ["a.fatrace", "a.fatrace.1", "b.fatrace.c.fatrace", "d.fa"]
    text = harness.plain([harness.FA_REPORT, "list", tmp_path]).stdout.decode()
    assert text.count("\n") == 4 and "no recording" not in text


@pytest.mark.parametrize("color", ["never", "always"])
def test_arguments_reach_a_terminal_as_text(shim, color):
    """Empty ones too, wherever they stand; JSON has all of them as they were."""
    given = ["", "a\x1b]0;title\x07b", "\x1b[2J\x1b\x1b[1", "c\u009bd\x7f", "", ""]
    run = shim.run(["/bin/echo", *given])
    assert run.report["target"]["args"][1:] == given
    text = harness.plain([harness.FA_REPORT, run.recording, "--color", color]).stdout.decode()
    assert text.splitlines()[0].replace("\x1b[1m", "").replace("\x1b[0m", "") == "/usr/bin/echo '' a?]0;title?b ?[2J??[1 c¿d? '' ''"
    assert ("\x1b[1m" in text) == (color == "always")


def test_text_is_in_the_manner_of_a_compiler(run):
    text = harness.plain([harness.FA_REPORT, "violations", run.recording]).stdout.decode()
    assert "FA601" in text and "known.c:" in text and "malloc(40)" in text
    assert "help" in text


@pytest.mark.parametrize("arguments, status", [
    (["--deny", "FA601"], 1), (["--deny", "FA902"], 0), (["--nonsense"], 2), (["--format", "nonsense"], 2)])
def test_exit_status(run, arguments, status):
    assert harness.plain([harness.FA_REPORT, "violations", run.recording, *arguments]).status == status


def with_lost_violations(recording, copy, count):
    losses = re.findall(r"^LOSS\((\w+)", (harness.ROOT / "core/registry/losses.def").read_text(), re.M)
    return harness.with_header(recording, copy, "losses", count, losses.index("VIOLATIONS"))


@pytest.mark.parametrize("arguments, status", [
    ([], 0), (["--deny", "FA902"], 1), (["--deny", "all"], 1), (["--deny-warnings"], 1), (["--deny", "FA502"], 0),
    (["--deny", "FA902", "--warn", "FA902"], 0), (["--deny-warnings", "--allow", "all"], 0)])
def test_what_could_not_be_recorded_may_be_denied(shim, tmp_path, arguments, status):
    """But for codes that come of sums."""
    clean = shim.run([harness.program("codes/fa601"), "clean"], {"frame": "frame_mark"})
    assert harness.plain([harness.FA_REPORT, clean.recording, *arguments]).status == 0
    lossy = with_lost_violations(clean.recording, tmp_path / "lossy.fatrace", 1234)
    for command, says in (("summary", "violations  none recorded; 1,234 could not be\n"),
                          ("violations", "no violations recorded; 1,234 could not be\n"), ("sites", "")):
        done = harness.plain([harness.FA_REPORT, command, lossy, *arguments])
        assert done.status == status and says in done.stdout.decode()
        assert done.stderr.decode() == (f"fa-report: {lossy}: 1,234 violations could not be recorded; a denied code may have fired\n"
                                        if status else "")


def test_what_fired_is_denied_without_a_word(run, tmp_path):
    lossy = with_lost_violations(run.recording, tmp_path / "lossy.fatrace", 5)
    done = harness.plain([harness.FA_REPORT, lossy, "--deny", "FA601"])
    assert (done.status, done.stderr) == (1, b"") and b"none" not in done.stdout.split(b"\nviolations")[1]


def test_unreadable_recordings_are_refused_in_one_line(built, tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(b"not a recording" * 1000)
    for path in (junk, tmp_path / "missing", tmp_path):
        done = harness.plain([harness.FA_REPORT, path])
        assert done.status == 2 and done.stdout == b"" and done.stderr.count(b"\n") == 1


def test_output_pipes_cleanly(run):
    command = f"{harness.FA_REPORT} dump {run.recording} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True)
    assert done.stderr == b"" and done.returncode in (0, 141)


def test_a_report_never_harms_what_stands_at_its_name(run, tmp_path):
    recording = tmp_path / "x.fatrace"
    recording.write_bytes(run.recording.read_bytes())
    done = harness.plain([harness.FA_REPORT, "-o", recording, recording])
    assert done.status == 2 and b"that is a recording" in done.stderr
    assert recording.read_bytes() == run.recording.read_bytes()
    kept = tmp_path / "kept.txt"
    for arguments in (("nosuch.fatrace",), ("explain", "FA999"), ("--min-severity", "hint", recording, "nosuch.fatrace")):
        kept.write_text("kept")
        assert harness.plain([harness.FA_REPORT, "-o", kept, *arguments]).status == 2
        assert kept.read_text() == "kept"
    assert harness.plain([harness.FA_REPORT, "-o", kept, recording]).status == 0
    assert kept.read_bytes() == harness.plain([harness.FA_REPORT, recording]).stdout
    assert {p.name for p in tmp_path.iterdir()} == {"x.fatrace", "kept.txt"}


def test_a_report_to_a_link_goes_through_it(run, tmp_path):
    file, link = tmp_path / "file.txt", tmp_path / "link.txt"
    file.write_text("old")
    link.symlink_to(file)
    assert harness.plain([harness.FA_REPORT, "-o", link, run.recording]).status == 0
    assert link.is_symlink() and file.read_bytes() == harness.plain([harness.FA_REPORT, run.recording]).stdout
    # As /dev/stdout is one: what takes its place would be there for everybody.
    device = tmp_path / "stdout"
    device.symlink_to("/proc/self/fd/1")
    with file.open("w") as out:
        subprocess.run([harness.FA_REPORT, "-o", device, run.recording], stdout=out, check=True)
    assert device.is_symlink() and b"allocations" in file.read_bytes()


def test_recordings_one_after_the_other(run):
    once = harness.plain([harness.FA_REPORT, "frames", run.recording]).stdout
    assert harness.plain([harness.FA_REPORT, "frames", run.recording, run.recording]).stdout == once + b"\n" + once


@pytest.mark.parametrize("arguments, message", [
    (["summary"], "summary wants a RECORDING"),
    (["RECORDING", "frames"], "the command comes first: fa-report frames RECORDING"),
    (["sumary", "RECORDING"], "no command sumary; fa-report --help lists them"),
    (["--format", "json", "RECORDING", "RECORDING"], "--format json takes one recording; RECORDING is too much"),
    (["--format", "json", "replay", "RECORDING"], "replay writes text only"),
    (["replay", "RECORDING"], "RECORDING was recorded without events; fa-run --level full records them"),
    (["--source-path", "/nosuch", "RECORDING"], "--source-path /nosuch: No such file or directory"),
    (["explain", "FA601", "FA602"], "explain takes one argument; FA602 is too much"),
], ids=" ".join)
def test_wrong_arguments_get_one_line(run, arguments, message):
    done = harness.plain([harness.FA_REPORT, *(str(run.recording) if a == "RECORDING" else a for a in arguments)])
    assert (done.status, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"fa-report: {message}\n".replace("RECORDING was", f"{run.recording} was").replace(
        "frames RECORDING", f"frames {run.recording}").replace("; RECORDING", f"; {run.recording}")


def test_fingerprints_are_the_same_in_another_run(run, built, tmp_path):
    known = [harness.program("known"), *"2 30 50 3 2 3 2 3 4 mark exit".split()]
    again = harness.Shim(tmp_path).run(known, {"frame": "frame_mark@*"})
    keys = [{(v["code"], v["fingerprint"]) for v in r.violations() if v["code"] in ("FA601", "FA205", "FA201")} for r in (run, again)]
    assert keys[0] == keys[1] and len(keys[0]) >= 4
