"""Entry/return scopes on unmodified functions: whatever way a marked function is called and left, the program does what
it does unpatched, the scope ends with the function's stack frame, and the counts are exact.

The programs print what they computed, and last what a recording must show; see tests/programs/scopes/scopes.h.
"""
import itertools
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness

MARKED = {"frame-scope": ["m_*@*"]}
UNKNOWN_END = "some calls count at their entry only: where their stack arguments end is unknown"
TOO_SHORT = "too short"
PARTS_REFUSED = {"it is a part of another function", "it is entered with a frame on the stack"}
ENDED = {"died_in_segment", "died_in_frame"}


def scopes_program(name, *flags):
    return harness.program(f"scopes/{name}", flags=flags)


def verdicts(run, site):
    """{verdict: count} of the blocks born in `site`, without zeros."""
    sums = {}
    for row in run.sites(site):
        for verdict, count in row["verdicts"].items():
            sums[verdict] = sums.get(verdict, 0) + count
    return {verdict: count for verdict, count in sums.items() if count}


def frame_count(report):
    return sum(t["count"] for t in report["frames"]["per_thread"])


def check_same(alone, run):
    """Patched, the program says and does what it did alone."""
    assert (run.stdout, run.stderr, run.status) == (alone.stdout, alone.stderr, alone.status)


def expected(alone):
    """The program's own count, its last line."""
    words = alone.stdout.decode().splitlines()[-1].split()
    return {name: int(count) for name, count in zip(words[::2], words[1::2])}


def check_counts(want, run):
    report = run.report
    assert all(m["binding"] == "patch" or m["reason"] in PARTS_REFUSED for m in report["markers"]), report["markers"]
    assert frame_count(report) == sum(m["calls"] for m in report["markers"]) == want["scopes"]
    inside, escaping, outside = (verdicts(run, site) for site in ("inside", "escaping", "outside"))
    assert sum(inside.values()) == want["inside"] and set(inside) <= ENDED
    assert escaping == ({"outlived_frame": want["escaping"]} if want["escaping"] else {})
    assert outside == ({"outside_scopes": want["outside"]} if want["outside"] else {})


def check(shim, command, mode="route", options=MARKED, timeout=60):
    alone = harness.plain(command, timeout=timeout, cwd=shim.folder)
    run = shim.run(command, {"mode": mode, **options}, expect=None, timeout=timeout)
    check_same(alone, run)
    check_counts(expected(alone), run)
    return run


def failing(*case, reason, run=True):
    """A known defect: strict, so that whoever mends it takes the mark away."""
    return pytest.param(*case, marks=pytest.mark.xfail(reason=reason, strict=run, run=run))


# ---- ways out ----------------------------------------------------------------------------------------------------

THROWS = ["through", "through-two", "rethrown", "cleanups", "kept", "caught-inside", "caught-by-marked", "threads"]
JUMPS = ["longjmp", "_longjmp", "siglongjmp", "handler", "two-longjmp", "two-siglongjmp", "two-handler",
         "alternate-stack", "levels", "deep", "stays", "threads",
         failing("builtin", reason="nothing tells of __builtin_longjmp before the next marked call")]
ENDS_OF_THREADS = ["waits", "two", "tests", "exits"]


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("case", THROWS)
def test_thrown_through(shim, case, mode):
    check(shim, [scopes_program("throws"), case, 500], mode)


@pytest.mark.parametrize("case, count", [("through", 1000000), ("rethrown", 100000)])
def test_many_exceptions(shim, case, count):
    check(shim, [scopes_program("throws"), case, count])


@pytest.mark.parametrize("case", ["uncaught", "noexcept"])
def test_terminates_as_it_did(shim, case):
    command = [scopes_program("throws"), case]
    alone, run = harness.plain(command), shim.run(command, MARKED, expect=None)
    check_same(alone, run)
    assert alone.status == -6 and b"terminated: an exception" in alone.stdout
    assert frame_count(run.report) == 1
    assert verdicts(run, "escaping") == {"never_died": 1}


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("case", JUMPS)
def test_left_by_a_jump(shim, case, mode):
    check(shim, [scopes_program("jumps"), case, 500], mode)


def test_a_million_jumps(shim):
    check(shim, [scopes_program("jumps"), "two-longjmp", 1000000])


@pytest.mark.parametrize("mode", ["observe", "route"])
@pytest.mark.parametrize("case", ENDS_OF_THREADS)
def test_threads_that_end_inside(shim, case, mode):
    check(shim, [scopes_program("cancelled"), case, 1000], mode)


@pytest.mark.parametrize("mode", ["route", "observe"])
def test_threads_that_are_cancelled_at_any_instruction(shim, mode):
    """They enter and leave scopes all the time: how often is a matter of luck, that they end is not."""
    command = [scopes_program("cancelled"), "anywhere", 1000]
    run = shim.run(command, {**MARKED, "mode": mode})
    assert run.stdout.startswith(b"cleaned 1000 returned 0\n")
    report = run.report
    assert frame_count(report) == sum(m["calls"] for m in report["markers"]) > 1000


CONTEXTS = ["switches", "on-coroutine", "small-stack", "yields",
            "abandoned"]


@pytest.mark.parametrize("case", CONTEXTS)
def test_stacks_that_change(shim, case):
    check(shim, [scopes_program("contexts"), case, 200])


HANDLERS = ["inside", "inside-jump", "outside", "jump", "alternate-inside", "alternate-inside-jump", "alternate-outside",
            "alternate-jump"]


@pytest.mark.parametrize("case", HANDLERS)
def test_signal_handlers(shim, case):
    check(shim, [scopes_program("handlers"), case, 200])


STORMS = ["storm", "alternate-storm", *(
    failing(case, reason="a jump out of a handler that interrupted the shim leaves the thread marked as busy")
    for case in ("storm-jump", "alternate-storm-jump"))]


@pytest.mark.parametrize("case", STORMS)
def test_signals_at_any_instruction(shim, case):
    """What was interrupted counts or not; afterwards every count is exact again."""
    command = [scopes_program("handlers"), case, 2000]
    alone, run = harness.plain(command), shim.run(command, MARKED)
    check_same(alone, run)
    inside = verdicts(run, "inside")
    assert sum(inside.values()) == 100 and set(inside) <= ENDED
    assert verdicts(run, "outside") == {"outside_scopes": 101}


@pytest.mark.xfail(strict=True, reason="no unwind information where the displaced instructions stand")
def test_the_first_instruction_faults_and_the_handler_throws(shim):
    check(shim, [scopes_program("faults", "-fnon-call-exceptions")])


@pytest.mark.parametrize("case", ["fork", "exit", "_exit", "abort", "main-exits"])
def test_the_process_ends_or_forks_inside(shim, case):
    check(shim, [scopes_program("ends"), case])


def test_becomes_another_program_inside(shim):
    command = [scopes_program("ends"), "exec"]
    check_same(harness.plain(command), shim.run(command, MARKED))


def test_main_as_the_scope(shim):
    command = [scopes_program("throws"), "through", 100]
    alone, run = harness.plain(command), shim.run(command, {"frame-scope": "main"})
    check_same(alone, run)
    assert run.report["frames"]["count"] == run.report["markers"][0]["calls"] == 1
    assert set(verdicts(run, "outside")) <= ENDED and verdicts(run, "escaping").keys() <= ENDED


def test_a_million_scopes_leave_nothing_behind(shim):
    check(shim, [scopes_program("steady"), 1000000])


def test_callers_are_seen_from_inside(shim):
    check(shim, [scopes_program("walk")])


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not there")
def test_a_debugger_sees_the_callers(shim):
    program = scopes_program("walk")
    pairs = harness.option_text([("frame-scope", "m_*"), ("output", shim.folder / "gdb.fatrace")])
    done = subprocess.run(["gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off",
                           "-ex", f"set environment LD_PRELOAD {harness.LIBRARY}",
                           "-ex", f"set environment FA_OPTIONS {pairs}", "-ex", "break here", "-ex", "run",
                           "-ex", "bt", "-ex", "finish", "-ex", "continue", program], capture_output=True, timeout=60,
                          env=harness.clean_environment())
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("#")]
    names = [re.match(r"#\d+ +(?:0x[0-9a-f]+ in )?([\w?]+)", line)[1] for line in lines]
    assert [n for n in names if n != "mark_around"][:5] == ["here", "m_inner", "m_outer", "caller", "main"], done.stdout
    assert b"exited normally" in done.stdout, done.stdout


# ---- regions -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("program, case", [
    ("throws", "through"), ("throws", "rethrown"), ("throws", "caught-inside"), ("jumps", "two-longjmp"),
    ("jumps", "stays"), ("jumps", "deep"), ("cancelled", "two"), ("contexts", "on-coroutine"), ("handlers", "inside-jump")])
def test_regions_end_as_frames_do(shim, program, case):
    policy = shim.folder / "policy.ini"
    policy.write_text("[region marked]\nscope = m_*\n")
    command = [scopes_program(program), case, 200]
    alone, run = harness.plain(command), shim.run(command, {"policy": policy}, via="fa-run", expect=None)
    check_same(alone, run)
    want = expected(alone)
    for site in ("inside", "escaping", "outside"):
        regions = {row["region"]: 0 for row in run.sites(site)}
        for row in run.sites(site):
            regions[row["region"]] += row["allocs"]
        region = None if site == "outside" else "marked"
        assert regions == ({region: want[site]} if want[site] else {}), site


# ---- calling conventions, over compilers and their settings ---------------------------------------------------------

SETTINGS = {
    "compiler": ["g++", "clang++"],
    "level": ["-O0", "-O1", "-O2", "-O3"],
    "position": [("-fPIE", "-pie"), ("-fno-pie", "-no-pie")],
    "protection": ["-fcf-protection=full", "-fcf-protection=none"],
    "pointer": ["-fomit-frame-pointer", "-fno-omit-frame-pointer"],
}
EVERY = list(itertools.product(*SETTINGS.values()))


def pairs_of(row):
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def covering():
    """Few rows of EVERY in which each pair of settings occurs."""
    rows, missing = [], set().union(*map(pairs_of, EVERY))
    while missing:
        rows.append(max(EVERY, key=lambda row: len(pairs_of(row) & missing)))
        missing -= pairs_of(rows[-1])
    return rows


COVERING = covering()
PARTS = ["arguments", "variable", "stacks", "calls", "recursion", "exceptions", "jumps", "environment", "registers",
         "unwinding", "indexed", "vectors"]
ABI = {"frame-scope": ["m_*", "*::m_*"]}


def abi_program(row, flags=()):
    compiler, level, position, protection, pointer = row
    name = "-".join(["abi", compiler.rstrip("+"), level[1:], position[0][2:], protection[15:], pointer[2:4], *flags])
    return harness.compile_to(
        harness.OUT / "scopes" / name, [harness.PROGRAMS / "scopes" / "abi.cpp"],
        ["-std=gnu++17", "-g1", level, *position, protection, pointer, "-pthread", "-Wall", "-Wextra", *flags],
        compiler=compiler)


@pytest.fixture(scope="session")
def abi_programs(built):
    """The covering builds, two at a time."""
    rows = [row for row in COVERING if shutil.which(row[0])]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(rows, pool.map(abi_program, rows)))


def row_name(row):
    return "-".join(str(x if isinstance(x, str) else x[0]).removeprefix("-f").lstrip("-") for x in row)


def check_abi(shim, program, parts):
    alone, run = harness.plain([program, *parts]), shim.run([program, *parts], ABI, expect=None)
    assert run.stdout.decode().splitlines() == alone.stdout.decode().splitlines(), harness.status_text(run.status)
    check_same(alone, run)
    want, report = expected(alone)["scopes"], run.report
    assert {m["reason"] for m in report["markers"]} <= {None, TOO_SHORT, UNKNOWN_END, *PARTS_REFUSED}
    unbound = [m for m in report["markers"] if not m["bound"] and m["reason"] not in PARTS_REFUSED]
    # Only a function without a body may be too short to be patched; its calls are 20.
    assert len(unbound) <= 2 and want - 20 * len(unbound) <= report["frames"]["count"] <= want
    assert unbound or report["frames"]["count"] == want


def skip_without(compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not there")


@pytest.mark.parametrize("row", COVERING, ids=row_name)
def test_calling_conventions(shim, abi_programs, row):
    skip_without(row[0])
    check_abi(shim, abi_programs[row], [p for p in PARTS if p not in ("indexed", "vectors")])


@pytest.mark.parametrize("row", COVERING, ids=row_name)
def test_indexed_stack_arguments(shim, abi_programs, row):
    skip_without(row[0])
    check_abi(shim, abi_programs[row], ["indexed"])


@pytest.mark.parametrize("row", COVERING, ids=row_name)
def test_vector_stack_arguments(shim, abi_programs, row):
    skip_without(row[0])
    check_abi(shim, abi_programs[row], ["vectors"])


@pytest.mark.parametrize("compiler, level", [("g++", "-O1"), ("clang++", "-O2")])
def test_everything_compiled_for_vectors(shim, compiler, level):
    """Also scalar floating point is VEX-encoded then."""
    skip_without(compiler)
    if "avx2" not in open("/proc/cpuinfo").read().split():
        pytest.skip("this processor has no AVX2")
    row = compiler, level, SETTINGS["position"][0], SETTINGS["protection"][0], SETTINGS["pointer"][0]
    check_abi(shim, abi_program(row, ("-mavx2", "-mfma")), PARTS)


@pytest.mark.parametrize("compiler", SETTINGS["compiler"])
def test_calls_that_cannot_be_bounded_say_so(shim, abi_programs, compiler):
    """The 16 KiB frame, the moving one and the realigned one of `stacks`: one function takes all three as entries."""
    skip_without(compiler)
    program = next(p for row, p in abi_programs.items() if row[0] == compiler and row[1] == "-O2")
    run = shim.run([program, "stacks"], {"frame-scope": "m_stack_seventh"})
    assert [(m["bound"], m["reason"]) for m in run.report["markers"]] == [(True, UNKNOWN_END)]
    run = shim.run([program, "stacks"], {"frame-scope": "m_registers_only"})
    assert [(m["bound"], m["reason"], m["calls"]) for m in run.report["markers"]] == [(True, None, 40)]


def test_parts_of_functions_are_no_functions(shim):
    program = scopes_program("throws")
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    assert ".cold" in symbols, "the compiler split nothing"
    run = shim.run([program, "rethrown", 10], {"frame-scope": "m_*"})
    starts = {int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(".cold")}
    assert not starts & {m["offset"] for m in run.report["markers"] if m["bound"]}


@pytest.mark.soak
@pytest.mark.parametrize("row", EVERY, ids=row_name)
def test_every_setting(shim, row):
    skip_without(row[0])
    check_abi(shim, abi_program(row), PARTS)
