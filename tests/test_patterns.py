"""The patterns of asynchronous code (docs/async.md): programs over libuv, SQLite, TCP and threads do the same with and
without the shim, also under AddressSanitizer, and break no rule but where they say so."""
import re
from pathlib import Path

import pytest

import harness

FOLDER = harness.TESTS / "patterns"
SHIM_FOLDER = harness.ROOT / "shim"
LIBRARIES = {"game_server": "uv", "asset_loader": "uv", "stream": "uv", "interval_timer": "uv", "transaction": "sqlite3"}
NAMES = sorted(p.stem for p in FOLDER.glob("*.c"))
OUTPUT = {
    "task_scoped": r"checksum \d+, tasks 100, polls 300, live 0",
    "nested_tasks": r"(request (\d), turn \2: done\n){6}abandoned 2",
    "guard_early_return": r"12345: 12345\n: no number\n12a: no number\n123456789: no number\n007: 007\nlive 0",
    "transaction": r"committed\nrolled back\ncommitted\n1 Ada 300\n2 Grace 0\n3 Barbara 1200\nlive 0",
    "channel": r"sum 4160444640, live 0",
    "interval_timer": r"ticks 20, sent \d+, live 0",
    "migration": r"(THE SAME RESULT, BEFORE AND AFTER\n){2}live 0",
    "game_server": r"moves 20 20 20, total 1140, tasks 3, live 0",
    "asset_loader": r"texture 10: \d+\nmesh 9: \d+\naudio 10: \d+\nfailed 1, live 0",
    "stream": r"received 100000, wrong 0, tasks 1, live 0",
    "frame_in_task_wrong": "42", "frame_in_task_right": "42", "vec_across_await_wrong": "10", "vec_across_await_right": "10",
}
TASKS = {"task_scoped": (100, 300), "nested_tasks": (9, 33), "game_server": (3, None), "asset_loader": (30, 30),
         "stream": (1, None), "channel": (4, 200), "migration": (1, 5)}


def build(name, *flags, compiler="gcc"):
    library = LIBRARIES.get(name)
    header = Path("/usr/include") / {"uv": "uv.h", "sqlite3": "sqlite3.h", None: "stdlib.h"}[library]
    if not header.exists():
        pytest.skip(f"{header.name} is not installed (package lib{library}{'1' if library == 'uv' else ''}-dev)")
    label = "".join(flags).replace("=", "").replace(",", "") + compiler
    return harness.compile_to(harness.OUT / f"patterns/{name}{label}", [FOLDER / f"{name}.c"],
                              ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{SHIM_FOLDER}", *flags],
                              libs=[f"-l{library}"] if library else [], compiler=compiler,
                              depends=[SHIM_FOLDER / "framealloc.h"])


def lines_that_say(name, mark):
    lines = (FOLDER / f"{name}.c").read_text().splitlines()
    return [n for n, line in enumerate(lines, 1) if re.search(rf"/\* {mark} \*/", line)]


@pytest.mark.parametrize("flags", [(), ("-fsanitize=address,undefined",)], ids=["plain", "sanitized"])
@pytest.mark.parametrize("name", NAMES)
def test_without_the_shim(built, name, flags):
    run = harness.plain([build(name, *flags)])
    assert run.status == 0 and run.stderr == b"" and re.fullmatch(OUTPUT[name] + "\n", run.stdout.decode())


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("name", NAMES)
def test_with_the_shim(shim, name, mode):
    program = build(name)
    run = shim.run([program], {"mode": mode})
    assert run.stdout == harness.plain([program]).stdout and run.stderr == b""
    found = {(v["code"], v["level"], v["born"]["stack"][0]["file"].split("/")[-1], v["born"]["stack"][0]["line"])
             for v in run.violations()}
    expected = {("FA701", "error", f"{name}.c", line) for line in lines_that_say(name, "FA701")}
    expected |= {("FA603", "error", f"{name}.c", line) for line in lines_that_say(name, "FA603: born here")}
    assert found == expected
    died = {v["died"]["stack"][0]["line"] for v in run.violations("FA603")}
    assert died == set(lines_that_say(name, "FA603: died here"))
    if name in TASKS:
        tasks, polls = TASKS[name]
        assert (run.report["tasks"]["started"], run.report["tasks"]["ended"]) == (tasks, tasks)
        assert polls in (None, run.report["tasks"]["polls"])
    assert run.report["totals"]["live_blocks"] < 60  # of libuv and stdio


@pytest.mark.parametrize("name", ["frame_in_task", "vec_across_await"])
def test_the_wrong_ones_fire_and_their_twins_are_silent(name):
    assert sum(len(lines_that_say(f"{name}_wrong", mark)) for mark in ("FA701", "FA603: born here")) == 1
    assert not any(lines_that_say(f"{name}_right", mark) for mark in ("FA701", "FA603: born here"))


def test_the_manual_shows_what_is_tried():
    """Each block of C in docs/async.md stands in one of these programs, or in the header."""
    sources = "\n".join(p.read_text() for p in [*FOLDER.glob("*.c"), SHIM_FOLDER / "framealloc.h"])
    known = {re.sub(r"\s+", " ", line).strip() for line in sources.splitlines()}
    shown = re.findall(r"```c\n(.*?)```", (harness.ROOT / "docs" / "async.md").read_text(), re.S)
    assert len(shown) >= 8
    for block in shown:
        for line in block.splitlines():
            assert not line.strip() or re.sub(r"\s+", " ", line).strip() in known, line
