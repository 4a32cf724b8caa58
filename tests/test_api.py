"""The C API (shim/framealloc.h): every call does the same with and without the shim, in C and C++, and every mistake is
told at its line, its twin not at all."""
import re

import pytest

import harness

HEADER = harness.ROOT / "shim" / "framealloc.h"
FOLDER = harness.PROGRAMS / "api"
COMPILERS = [("gcc", "-std=gnu11"), ("clang", "-std=gnu11"), ("g++", "-std=c++17"), ("clang++", "-std=c++17")]
SANITIZED = "-fsanitize=address,undefined"
# case: code, whether it is born and dies somewhere, level
CASES = {
    "FA001": ("FA001", "b", "error"), "FA301": ("FA301", "", "warning"), "FA601": ("FA601", "bd", "error"),
    "FA603": ("FA603", "bd", "error"), "FA701": ("FA701", "b", "error"), "FA703": ("FA703", "bd", "error"),
    "FA704": ("FA704", "d", "warning"), "FA705": ("FA705", "bd", "error"), "by-hand": ("FA705", "bd", "error"),
    "order": ("FA705", "d", "error"), "task-twice": ("FA705", "bd", "error"),
}


def build(name, *flags, compiler="gcc", standard="-std=gnu11", suffix=".c"):
    label = re.sub(r"\W", "", "".join([compiler, standard, *flags]))
    return harness.compile_to(harness.OUT / f"api/{name}{label}", [FOLDER / f"{name}{suffix}"],
                              [standard, "-g", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-pthread", f"-I{HEADER.parent}", *flags],
                              compiler=compiler, depends=[HEADER, HEADER.with_suffix(".hpp")])


def line_of(case, what):
    lines = (FOLDER / "misuse.c").read_text().splitlines()
    line, = [n for n, text in enumerate(lines, 1) if f"/* {case} {what} */" in text]
    return line


@pytest.fixture(scope="module")
def figures(built):
    run = harness.plain([build("everything")])
    assert run.status == 0, run.stderr
    assert re.fullmatch(rb"frame (\d+) \1 0, other (\d+) \2 0, frames 101, tasks 3 3, polls 4, misuse 0\n", run.stdout)
    return run.stdout


@pytest.mark.parametrize("compiler, standard", COMPILERS[:2])
def test_every_call_without_the_shim(built, figures, compiler, standard):
    run = harness.plain([build("everything", SANITIZED, compiler=compiler, standard=standard)])
    assert (run.status, run.stdout, run.stderr) == (0, figures, b"")


@pytest.mark.parametrize("flags", [(), ("-no-pie",), ("-O0",), ("-O3", "-flto")], ids=str)
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_every_call_with_the_shim(shim, figures, mode, flags):
    run = shim.run([build("everything", *flags)], {"mode": mode})
    assert run.stdout == figures and run.stderr == b""
    assert run.report["frames"]["count"] == 101
    assert run.report["tasks"]["started"] == run.report["tasks"]["ended"] == 3
    assert [(m["name"], m["binding"]) for m in run.report["markers"] if m["kind"] == "frame"] == [("fa_frame_begin", "api")]


@pytest.mark.parametrize("options", [{"mode": "observe"}, {"mode": "route"}, {"follow": 1}], ids=str)
def test_every_call_in_a_child(shim, figures, options):
    """Where nothing is recorded owners free their blocks all the same, and guards and tasks can be had."""
    run = shim.run([build("everything"), "child"], options)
    assert (run.stdout, run.stderr) == (figures, b"")
    assert harness.plain([build("everything", SANITIZED), "child"]).stdout == figures


def test_passed_through(shim, figures):
    """mode=off: the header's own way."""
    assert shim.run([build("everything")], {"mode": "off"}).stdout == figures


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["observe", "route"])
def test_each_mistake_is_told_at_its_line(shim, mode, case):
    code, where, level = CASES[case]
    run = shim.run([build("misuse"), case], {"mode": mode})
    found, = run.violations()
    assert (found["code"], found["level"], found["count"]) == (code, level, 1)
    for letter, key in (("b", "born"), ("d", "died")):
        if letter in where:
            frame = found[key]["stack"][0]
            assert (frame["file"].split("/")[-1], frame["line"]) == ("misuse.c", line_of(case, key))
    if case == "FA704":
        assert found["bytes"] == 112  # usable, of the 100 that are left: what was handed on is none of them
    if case == "FA603":
        assert found["scope_end"]["stack"][0]["line"] == line_of(case, "await")
    assert shim.run([build("misuse"), case, "clean"], {"mode": mode}).violations() == []


@pytest.mark.parametrize("case", [*CASES, "tags"])
def test_the_twins_do_the_same_without_the_shim(shim, case):
    for arguments in ([case], [case, "clean"]):
        if arguments == ["FA601"]:
            continue  # without the shim it is what free does with a freed block
        plain = harness.plain([build("misuse", SANITIZED, "-fno-sanitize-recover=all"), *arguments])
        assert plain.status == 0 and plain.stderr == b""
        assert plain.stdout == shim.run([build("misuse"), *arguments]).stdout


def test_frames_that_the_program_marks_itself_are_no_suggestion(shim, tmp_path):
    run = shim.run([build("corners"), "frame-after-await"])
    policy = tmp_path / "suggested.ini"
    policy.write_bytes(harness.plain([harness.FA_REPORT, "suggest", run.recording]).stdout)
    assert "; the program marks its own: fa_frame_begin" in policy.read_text() and "frame = fa_" not in policy.read_text()
    assert harness.plain([harness.FA_REPORT, "policy", "--check", policy]).status == 0


def test_tags_are_regions(shim):
    run = shim.run([build("misuse"), "tags"])
    region, = run.report["regions"]
    assert (region["name"], region["allocs"]) == ("physics", 1)


@pytest.mark.parametrize("compiler, standard", COMPILERS)
def test_from_cxx_and_c(built, shim, compiler, standard):
    if compiler.endswith("++"):
        program = build("raii", compiler=compiler, standard=standard, suffix=".cpp")
        expected = harness.plain([program]).stdout
        assert expected == b"frames 5, tasks 3 3, polls 6, live 0, misuse 0\n"
        assert harness.plain([build("raii", SANITIZED, compiler=compiler, standard=standard, suffix=".cpp")]).stdout == expected
    else:
        program = build("everything", compiler=compiler, standard=standard)
        expected = harness.plain([program]).stdout
    run = shim.run([program])
    assert run.stdout == expected
    if compiler.endswith("++"):
        assert run.violations() == []


def test_units_share_their_state(built, shim):
    objects = [harness.compile_to(harness.OUT / f"api/{name}.o", [FOLDER / name], ["-c", "-g", "-O1", f"-I{HEADER.parent}"],
                                  depends=[HEADER]) for name in ("unit.c", "unit_other.cpp")]
    program = harness.compile_to(harness.OUT / "api/units", objects, compiler="g++")
    assert harness.plain([program]).stdout == shim.run([program]).stdout == b"1 1 0\n0\n"


@pytest.mark.parametrize("arguments", [(), ("frame",)])
@pytest.mark.parametrize("stacks", ["full", "none"])
def test_sites_that_are_first_seen_in_a_task(shim, stacks, arguments):
    run = shim.run([build("first_in_task"), *arguments], {"stacks": stacks})
    verdicts = run.report["verdicts"]
    assert verdicts["outside_scopes"] >= 399
    assert sum(verdicts.values()) - verdicts["outside_scopes"] == 1
