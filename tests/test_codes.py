"""Every code fires on a real run of a program that breaks its rule, and stays silent on the program's clean twin.

The twin is the same program with the argument `clean`, at the rule's limit where there is one.
"""
import pytest

import harness

# code: options, site of birth (None: the code has no site), site of death (None: not asked), count expected (None: any)
CASES = {
    "FA001": ({"policy": harness.PROGRAMS / "codes/fa001.ini"}, "born_here", None, 3),
    "FA003": ({"frame-limit": "1M"}, "born_here", None, None),
    "FA201": ({}, "born_here", "freed_here", 1),
    "FA204": ({}, None, None, 1),
    "FA205": ({}, "born_here", "freed_here", 1),
    "FA301": ({"budget": "64K"}, None, None, 3),
    "FA501": ({}, "born_here", None, 1),
    "FA502": ({}, "born_here", None, None),
    "FA510": ({"role": "worker=job*"}, "born_here", None, None),
    "FA520": ({}, "moved_here", None, None),
    "FA530": ({}, "born_here", None, None),
    "FA601": ({}, "born_here", "freed_here", 1),
    "FA602": ({}, "born_here", None, None),
    "FA603": ({"await": "await_here"}, "born_here", "freed_here", 3),
    "FA604": ({"never-ends-ms": "200", "never-ends-bytes": "1M"}, None, None, 1),
    "FA801": ({"policy": harness.PROGRAMS / "codes/fa801.ini"}, "born_here", None, 5),
    "FA901": ({}, None, "freed_here", 1),
    "FA902": ({}, "born_here", "freed_here", 1),
}
LEVELS = {"FA001": "error", "FA801": "hint", "FA510": "hint", "FA602": "hint", "FA901": "error", "FA902": "error"}
SILENT_TWINS = {"FA603", "FA001", "FA801", "FA201", "FA205", "FA601", "FA901", "FA902", "FA301", "FA530", "FA602"}


# What observe has no tier for can only happen in route: an arena at its limit, frees that wait for an arena's owner.
ROUTE_ONLY = {"FA003", "FA204"}
RUNS = [(code, mode) for code in CASES for mode in ("route", "observe") if mode == "route" or code not in ROUTE_ONLY]


def run(shim, code, twin, mode, *more):
    program = harness.program(f"codes/{code.lower()}")
    return shim.run([program, twin, *more], {"mode": mode, "frame": "frame_mark", **CASES[code][0]})


def innermost(path):
    return path["stack"][0]["function"] if path and path["stack"] else None


@pytest.mark.parametrize("code, mode", RUNS)
def test_fires(shim, code, mode):
    _, born, died, count = CASES[code]
    fired = run(shim, code, "fire", mode)
    found = fired.violations(code)
    assert found, f"{code} did not fire: {[v['code'] for v in fired.violations()]}"
    if born:
        assert born in [innermost(v["born"]) for v in found]
        found = [v for v in found if innermost(v["born"]) == born]
    if died:
        assert died in [innermost(v["died"]) for v in found]
    if code == "FA603":
        lines = (harness.PROGRAMS / "codes/fa603.c").read_text().splitlines()
        assert {lines[v["scope_end"]["stack"][0]["line"] - 1].strip() for v in found} == {"await_here();"}
    if count is not None:
        assert sum(v["count"] for v in found) == count
    assert {v["level"] for v in found} == {LEVELS.get(code, "warning")}
    assert all(v["fingerprint"] and v["message"] and v["help"] and v["name"] for v in found)


@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.parametrize("code", CASES)
def test_clean_twin_is_silent(shim, code, mode):
    clean = run(shim, code, "clean", mode)
    codes = [v["code"] for v in clean.violations()]
    assert code not in codes
    if code in SILENT_TWINS:
        assert codes == []


def test_frame_escape_tells_scope_end_and_the_never_freed(shim):
    fired = run(shim, "FA601", "fire", "route")
    by_site = {innermost(v["born"]): v for v in fired.violations("FA601")}
    assert set(by_site) == {"born_here", "never_freed"}
    assert by_site["never_freed"]["died"] is None
    assert by_site["never_freed"]["count"] == 1
    escaped = by_site["born_here"]
    assert (escaped["count"], escaped["bytes"], escaped["first_frame"]) == (1, 100, 2)
    assert "main" in [f["function"] for f in escaped["scope_end"]["stack"]]


@pytest.mark.parametrize("mode", ["route", "observe"])
@pytest.mark.parametrize("tier", ["frame", "heap", "outside"])
@pytest.mark.parametrize("code", ["FA901", "FA902"])
def test_heap_errors_in_every_tier(shim, code, tier, mode):
    fired = run(shim, code, "fire", mode, tier)
    assert [(v["code"], v["count"]) for v in fired.violations()] == [(code, 1)]
    assert run(shim, code, "clean", mode, tier).violations() == []


@pytest.mark.parametrize("code", ["FA901", "FA902"])
def test_heap_errors_abort_when_asked(shim, code):
    program = harness.program(f"codes/{code.lower()}")
    run = shim.run([program, "fire"], {"frame": "frame_mark", "on-heap-error": "abort"}, expect=None)
    assert run.status == -6
    assert code.encode() in run.stderr
    assert [v["code"] for v in run.violations()] == [code]


def test_every_code_of_the_registry_is_explained(built):
    for code in CASES:
        done = harness.plain([harness.FA_REPORT, "explain", code])
        assert done.status == 0 and code.encode() in done.stdout


@pytest.mark.parametrize("option, code, arguments", [
    ("hot-loop=2000", "FA602", ()), ("heap-hot=101", "FA530", ()), ("long-lived=61", "FA501", ()),
    ("budget=100K", "FA301", ()), ("remote-backlog=5000", "FA204", ()), ("survival=60", "FA502", ()),
    ("frame-limit=64M", "FA003", ()), ("churn=100", "FA520", ())])
def test_thresholds_move_the_limit(shim, option, code, arguments):
    key, value = option.split("=")
    options = {"mode": "route", "frame": "frame_mark", **CASES[code][0], key: value}
    run = shim.run([harness.program(f"codes/{code.lower()}"), "fire", *arguments], options)
    assert run.violations(code) == []
